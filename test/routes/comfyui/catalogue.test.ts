import { gunzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { mergeJsonLists } from '../../../src/comfyui/merge-lists.ts'
import { startFleet, until } from './read-fleet.ts'

const models = (...checkpoints: string[]) => ({ models: { checkpoints } })

describe('GET /object_info', () => {
  it('is one worker’s own text when all are alike', async () => {
    const fleet = await startFleet({ workers: [{}, {}] })
    const own = await (await fetch(`${fleet.workers[0]?.url}/object_info`)).text()
    const answer = await fleet.get('/object_info')
    expect(answer.body).toBe(own)
    expect(answer.headers).toMatchObject({ 'content-type': 'application/json; charset=utf-8', vary: 'Accept-Encoding' })
  })

  it('has every worker’s models, and is compressed once for those who take it', async () => {
    const fleet = await startFleet({ workers: [models('a.safetensors'), models('b.safetensors')] })
    const plain = await fleet.get('/api/object_info')
    const list = plain.json().CheckpointLoaderSimple.input.required.ckpt_name[0]
    expect(list.toSorted()).toEqual(['a.safetensors', 'b.safetensors'])
    const packed = await fleet.get('/object_info', { 'accept-encoding': 'deflate, GZIP;q=0.5' })
    expect(packed.headers['content-encoding']).toBe('gzip')
    expect(gunzipSync(packed.rawPayload).toString()).toBe(plain.body)
    expect(
      (await fleet.get('/object_info', { 'accept-encoding': 'gzip;q=0' })).headers['content-encoding'],
    ).toBeUndefined()
    const one = (await fleet.get('/object_info/CheckpointLoaderSimple')).json()
    expect(one).toEqual({ CheckpointLoaderSimple: plain.json().CheckpointLoaderSimple })
  })

  it('answers an empty object for an unknown class, and for any while no worker is known', async () => {
    const none = await startFleet({ workers: [] })
    for (const name of ['Nope', 'Primitive%20boolean%20%5BCrystools%5D', '__proto__']) {
      const answer = await none.get(`/object_info/${name}`)
      expect([answer.statusCode, answer.body]).toEqual([200, '{}'])
    }
    const whole = await none.get('/object_info')
    expect([whole.statusCode, whole.headers['retry-after']]).toEqual([503, '5'])
    expect(whole.json().error.type).toBe('no_worker')
  })

  it('asks workers again when what they said is old, and not otherwise', async () => {
    const fleet = await startFleet({ objectInfo: { maxAgeMs: 0 } })
    fleet.workers[0]?.files.put('input', '', 'new.png', Buffer.from('x'))
    expect((await fleet.get('/object_info')).body).toContain('"new.png"')
    const lazy = await startFleet()
    lazy.workers[0]?.files.put('input', '', 'new.png', Buffer.from('x'))
    expect((await lazy.get('/object_info')).body).not.toContain('"new.png"')
  })

  it('serves what it knows when a worker is slow to say it again', async () => {
    const fleet = await startFleet({ objectInfo: { maxAgeMs: 0, waitMs: 1_000 } })
    fleet.workers[0]?.faults.set('GET /object_info', { kind: 'hang' }, { times: 1 })
    expect((await fleet.get('/object_info')).json()).toHaveProperty('KSampler')
    // The time is up for whoever asks next, too.
    const since = performance.now()
    await fleet.get('/object_info/KSampler')
    expect(performance.now() - since).toBeLessThan(500)
  })

  it('outlives its workers', async () => {
    const fleet = await startFleet()
    await fleet.workers[0]?.kill()
    await until('it is noticed', () => fleet.registry.list()[0]?.isUp === false)
    expect((await fleet.get('/object_info')).json()).toHaveProperty('KSampler')
  })
})

describe('models', () => {
  it('are the union of what the workers have', async () => {
    const fleet = await startFleet({ workers: [models('a', 'shared'), models('b', 'shared')] })
    const [first, second] = fleet.registry
      .list()
      .map(({ config }) => (config.url === fleet.workers[0]?.url ? 'a' : 'b'))
    expect((await fleet.get('/models/checkpoints')).json()).toEqual([first, 'shared', second])
    expect((await fleet.get('/models')).json()).toContain('checkpoints')
    expect((await fleet.get('/embeddings')).body).toBe('[]')
  })

  it('are asked for once, however many clients poll', async () => {
    const fleet = await startFleet()
    await Promise.all(Array.from({ length: 20 }, () => fleet.get('/models/checkpoints')))
    expect(fleet.workers[0]?.ledger.requestsOf('GET /models/checkpoints')).toHaveLength(1)
  })

  it('answers 404 for a folder that nobody lists, without asking anybody', async () => {
    const fleet = await startFleet()
    for (const url of ['/models/nope', '/models/..%2fx', '/experiment/models/nope']) {
      const answer = await fleet.get(url)
      expect([answer.statusCode, answer.body, answer.headers['content-type']]).toEqual([404, '', undefined])
    }
    const asked = fleet.workers[0]?.ledger.requests.map(({ path }) => path).filter((path) => path.includes('models/'))
    expect(asked).toEqual([])
  })

  it('leaves out a worker that does not answer, and says so when none does', async () => {
    const fleet = await startFleet({ workers: [models('a'), models('b')] })
    fleet.workers[1]?.faults.set('GET /models*', { kind: 'garbage' })
    expect((await fleet.get('/models/checkpoints')).json()).toEqual(['a'])
    const none = await startFleet({ workers: [] })
    expect((await none.get('/models')).statusCode).toBe(503)
  })

  it('merges objects by name, whatever slashes they are written with', () => {
    expect(mergeJsonLists(['[{"name": "a/x", "n": 1.0}, 5]', '[{"name":"a\\\\x"}, {"name": "b"}, 5]', '{}', 'x'])).toBe(
      '[{"name": "a/x", "n": 1.0}, 5, {"name": "b"}]',
    )
  })
})

describe('GET /system_stats', () => {
  it('shows the devices of all workers, and no command line', async () => {
    const fleet = await startFleet({ workers: [{ name: 'A' }, { name: 'B' }] })
    const stats = (await fleet.get('/system_stats')).json()
    expect(stats.system).toMatchObject({ os: 'posix', comfyui_version: '0.3.64', argv: [] })
    const expected = fleet.registry.list().map(({ config }, index) => ({
      name: `${config.name} cuda:0 ${config.name === 'gpu1' ? 'A' : 'B'}`,
      index,
      type: 'cuda',
    }))
    expect(stats.devices).toMatchObject(expected)
    expect(stats.devices[0].vram_total).toBe(24 * 1024 ** 3)
  })

  it('shows workers as they were last when none is up, and answers without any', async () => {
    const fleet = await startFleet()
    await fleet.workers[0]?.kill()
    await until('it is noticed', () => fleet.registry.list()[0]?.isUp === false)
    expect((await fleet.get('/system_stats')).json().devices).toHaveLength(1)
    const none = await startFleet({ workers: [] })
    expect((await none.get('/system_stats')).json()).toMatchObject({ system: { argv: [] }, devices: [] })
  })
})

describe('GET /features', () => {
  it('is what every worker has, and the gateway’s own', async () => {
    const old = await startFleet({ workers: [{}, { version: '2026' }] })
    expect((await old.get('/features')).body).toBe('{"supports_preview_metadata": true, "max_upload_size": 104857600}')
    const recent = await startFleet({ workers: [{ version: '2026' }] })
    expect((await recent.get('/api/features')).json()).toEqual({
      supports_preview_metadata: true,
      max_upload_size: 104857600,
      supports_model_type_tags: true,
      node_replacements: true,
    })
  })
})

it('takes subscriptions to logs, on the bare path only', async () => {
  const fleet = await startFleet({ workers: [] })
  const patch = (url: string) =>
    fleet.app.inject({ method: 'PATCH', url, payload: '{"clientId": "A", "enabled": true}' })
  const answer = await patch('/internal/logs/subscribe')
  expect([answer.statusCode, answer.body, answer.headers['content-length']]).toEqual([200, '', '0'])
  expect((await patch('/api/internal/logs/subscribe')).statusCode).toBe(404)
})
