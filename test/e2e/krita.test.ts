import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import { createSimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { readPicture } from '../../src/verify/picture.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, pictureGraph, submit } from '../support/comfy-client.ts'
import { png } from '../support/uploads.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

const put = async (url: string, id: string, bytes: Buffer, headers: Record<string, string> = {}) => {
  const answer = await fetch(`${url}/api/etn/image/${encodeURIComponent(id)}`, { method: 'PUT', body: bytes, headers })
  return [answer.status, await answer.text()]
}
const get = (url: string, id: string) => fetch(`${url}/api/etn/image/${encodeURIComponent(id)}`)

/** A picture by its id, brought back by an id; `salt` keeps graphs apart. */
const cacheGraph = (id: string, salt = 0) => ({
  '1': { class_type: 'ETN_LoadImageCache', inputs: { id } },
  '2': { class_type: 'ETN_SaveImageCache', inputs: { images: ['3', 0], format: 'PNG' } },
  '3': {
    class_type: 'ImageScale',
    inputs: { image: ['1', 0], upscale_method: 'area', width: 8 + salt, height: 8, crop: 'disabled' },
  },
})

async function resultIds(url: string, promptId: string): Promise<string[]> {
  const { outputs, status } = await finished(url, promptId, 30_000)
  const images = Object.values(outputs)[0]?.images as { id?: string; source?: string }[] | undefined
  expect(status.status_str, JSON.stringify(status)).toBe('success')
  return (images ?? []).flatMap(({ id, source }) => (source === 'http' && id !== undefined ? [id] : []))
}

async function resultColour(url: string, promptId: string): Promise<number> {
  const [id = ''] = await resultIds(url, promptId)
  const answer = await get(url, id)
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'image/png'])
  expect(answer.headers.get('content-security-policy')).toContain('sandbox')
  return readPicture(Buffer.from(await answer.arrayBuffer())).colour
}

const putsOf = (worker: TestGateway['workers'][number] | undefined) =>
  worker?.ledger.requests.filter(({ method }) => method === 'PUT') ?? []

describe("Krita's pictures", () => {
  it('are held by the gateway: put, known, given back, with what ComfyUI would answer', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const headers = { 'content-type': 'image/png' }
    expect(await put(url, '1a2b3c4d', png(1), headers)).toEqual([201, '{"status": "success"}'])
    expect(await put(url, '1a2b3c4d', png(1), headers)).toEqual([200, '{"status": "cached"}'])
    const answer = await get(url, '1a2b3c4d')
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'image/png'])
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(png(1))
    const head = await fetch(`${url}/api/etn/image/1a2b3c4d`, { method: 'HEAD' })
    expect([head.status, head.headers.get('content-length')]).toEqual([200, String(png(1).length)])
    const unknown = await get(url, 'ffffffff')
    expect([unknown.status, await unknown.json()]).toEqual([404, { error: 'Image not found' }])
    expect(putsOf(workers[0])).toEqual([])
  })

  it('are no pages of the gateway, have no endless names, and are no larger than a body may be', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { MAX_BODY_BYTES: '100000' } })
    const { url } = fleet
    await put(url, 'page', Buffer.from('<script>1</script>'), { 'content-type': 'text/html' })
    const page = await get(url, 'page')
    expect(page.headers.get('content-type')).toBe('application/octet-stream')
    expect(page.headers.get('x-content-type-options')).toBe('nosniff')
    expect((await put(url, 'x'.repeat(201), png(1)))[0]).toBe(400)
    expect((await put(url, 'big', Buffer.alloc(100_001)))[0]).toBe(413)
    const chunked = { method: 'PUT', body: new Blob([Buffer.alloc(100_001)]).stream(), duplex: 'half' } as RequestInit
    expect((await fetch(`${url}/api/etn/image/big`, chunked)).status).toBe(413)
    expect((await get(url, 'big')).status).toBe(404)
    expect((await put(url, 'empty', Buffer.alloc(0)))[0]).toBe(201)
    // Not to a worker in another spelling either: it would be in the reach of everybody.
    for (const path of ['/api/etn//image/x', '/etn/image/x', '/api//etn/Image/x']) {
      expect((await fetch(`${url}${path}`, { method: 'PUT', body: png(1) })).status).toBe(405)
      expect((await fetch(`${url}${path}`)).status).toBe(404)
    }
    expect(fleet.workers[0]?.images.ids).toEqual([])
  })

  it('go to whichever worker runs the prompt, once to each, and results come from there', async () => {
    fleet = await buildTestGateway({ workers: 3 })
    const { url, workers } = fleet
    await put(url, '1a2b3c4d', png(77))
    const prompts = await Promise.all(
      Array.from({ length: 12 }, (_, n) => submit(url, { prompt: cacheGraph('1a2b3c4d', n) })),
    )
    for (const { promptId } of prompts) expect(await resultColour(url, promptId)).toBe(77)
    for (const worker of workers) {
      expect(worker.ledger.runs.length).toBeGreaterThan(0)
      expect(putsOf(worker)).toHaveLength(1)
    }
    const entry = await finished(url, prompts[0]?.promptId ?? '')
    expect(entry.prompt[2]).toEqual(cacheGraph('1a2b3c4d', 0))
  })

  it('are those that an id had when the prompt came, also when the id is used again', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url } = fleet
    const busy = [1, 2, 3, 4].map((n) => submit(url, { prompt: pictureGraph({ colour: n, sleepS: 0.3 }) }))
    await Promise.all(busy)
    const wanted = new Map<string, number>()
    for (let colour = 1; colour <= 10; colour++) {
      expect((await put(url, 'input', png(colour)))[0]).toBe(201)
      wanted.set((await submit(url, { prompt: cacheGraph('input') })).promptId, colour)
    }
    for (const [promptId, colour] of wanted) expect(await resultColour(url, promptId)).toBe(colour)
  })

  it('are put again under another id when a worker has one of unknown age', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    await put(url, 'a b"c', png(5))
    await resultColour(url, (await submit(url, { prompt: cacheGraph('a b"c') })).promptId)
    const usual = workers[0]?.images.ids.find((id) => /^[0-9a-f]{12}-/.test(id)) ?? ''
    await fleet.close()
    // The next gateway knows nothing of what the worker has.
    const worker = await createSimulatedWorker({})
    onTestFinished(() => worker.close())
    worker.images.put(usual, png(5), 'image/png')
    fleet = await buildTestGateway({ running: [worker] })
    await put(fleet.url, 'a b"c', png(5))
    const graph = cacheGraph('a b"c')
    const { promptId } = await submit(fleet.url, { prompt: graph })
    expect(await resultColour(fleet.url, promptId)).toBe(5)
    expect(worker.images.ids.filter((id) => /^[0-9a-f]{12}\.[0-9a-z]+-a b_c$/.test(id))).toHaveLength(1)
    expect((await finished(fleet.url, promptId)).prompt[2]).toEqual(graph)
  })

  it('are meant by the nodes that take ids, and by no other text that looks the same', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    await put(url, 'area', png(9))
    await put(url, 'prefix', png(9))
    const graph = {
      ...cacheGraph('area'),
      '4': { class_type: 'SaveImage', inputs: { images: ['3', 0], filename_prefix: 'prefix' } },
    }
    const { promptId, status } = await submit(url, { prompt: graph })
    expect(status).toBe(200)
    const { outputs } = await finished(url, promptId)
    expect(outputs['4']?.images?.[0]?.filename).toMatch(/^prefix_/)
    expect(putsOf(workers[0])).toHaveLength(1)
  })

  it('come back to a worker that has lost its memory, and what it says of them has their own id', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    await put(url, 'id FAIL', png(3))
    const failed = await submit(url, { prompt: cacheGraph('id FAIL') })
    const text = JSON.stringify((await finished(url, failed.promptId)).status)
    expect(text).toContain('"id FAIL"')
    expect(text).not.toMatch(/[0-9a-f]{12}[.-]/)

    await put(url, 'x', png(4))
    expect(await resultColour(url, (await submit(url, { prompt: cacheGraph('x') })).promptId)).toBe(4)
    await workers[0]?.kill()
    await until(() => gateway.workers().every((worker) => !worker.isUp))
    await workers[0]?.start()
    await until(() => gateway.workers().every((worker) => worker.isUp))
    expect(await resultColour(url, (await submit(url, { prompt: cacheGraph('x', 1) })).promptId)).toBe(4)
  })

  it('outlive a restart of the gateway', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'comfyfleet-'))
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }))
    const worker = await createSimulatedWorker({})
    onTestFinished(() => worker.close())
    const options = { dataDir, env: { STORE: 'sqlite' }, running: [worker] }
    fleet = await buildTestGateway(options)
    await put(fleet.url, 'x', png(6))
    await fleet.close()
    fleet = await buildTestGateway(options)
    expect(await resultColour(fleet.url, (await submit(fleet.url, { prompt: cacheGraph('x') })).promptId)).toBe(6)
  })
})

describe('what Krita asks of models and languages', () => {
  it('is answered by a worker that has the nodes, whichever it is', async () => {
    const missingClasses = ['ETN_LoadImageCache', 'ETN_SaveImageCache']
    const models = { checkpoints: ['a.safetensors', 'b.safetensors'] }
    fleet = await buildTestGateway({ workers: [{ missingClasses }, { models }], env: { PASS_THROUGH: 'off' } })
    const { url } = fleet
    const text = async (path: string) => {
      const answer = await fetch(`${url}/api/etn/${path}`)
      return [answer.status, await answer.json()]
    }
    const info = { base_model: 'sd15', is_inpaint: false }
    expect(await text('model_info')).toEqual([200, { 'a.safetensors': info, 'b.safetensors': info }])
    expect(await text('model_info/checkpoints?offset=1&limit=1')).toEqual([
      200,
      { 'b.safetensors': info, _meta: { offset: 1, count: 1, total: 2 } },
    ])
    expect(await text('model_info/nothing')).toEqual([400, { error: 'Invalid folder path' }])
    expect(await text('languages')).toEqual([200, [{ name: 'German', code: 'de' }]])
    expect(await text('translate/de/ein%2FBild')).toEqual([200, 'de:ein/Bild'])
  })

  it('is a 404 where no worker has them', async () => {
    fleet = await buildTestGateway({ workers: [{ missingClasses: ['ETN_LoadImageCache'] }] })
    for (const path of ['model_info/checkpoints', 'languages', 'translate/de/x']) {
      expect((await fetch(`${fleet.url}/api/etn/${path}`)).status).toBe(404)
    }
  })
})
