import { expect, it } from 'vitest'
import { startUserdata, type UserdataAppOptions } from '../routes/comfyui/userdata-app.ts'

const asks = (app: { worker: { ledger: { requestsOf(route: string): readonly unknown[] } } }, route: string) =>
  app.worker.ledger.requestsOf(route).length

/** A worker that somebody has used before there was a gateway. */
async function startUsed(options: UserdataAppOptions = {}) {
  const app = await startUserdata(options)
  await fetch(`${app.worker.url}/settings`, { method: 'POST', body: '{"Comfy.Old": 1.0, "Comfy.Both": "theirs"}' })
  const files = { 'workflows/a.json': '{"a": 1}', 'workflows/100%41.json': 'x', 'comfy.settings.json': '{}' }
  for (const [path, text] of Object.entries(files)) {
    app.worker.userdata.set(path, { bytes: Buffer.from(text), modifiedS: 1_700_000_000.5 })
  }
  return app
}

it('takes over what the UI worker has, once, when it is first asked for', async () => {
  const app = await startUsed()
  app.worker.userdata.set('ComfyUI-Manager/config.ini', { bytes: Buffer.from('secret'), modifiedS: 1 })
  expect(app.worker.ledger.requests.filter(({ method }) => method === 'GET')).toEqual([])
  const [first, second] = await Promise.all([app.get('/settings'), app.get('/settings/Comfy.Old')])
  expect([first.body, second.body]).toEqual(['{"Comfy.Old": 1.0, "Comfy.Both": "theirs"}', '1.0'])
  expect(asks(app, 'GET /settings')).toBe(1)
  expect((await app.get('/v2/userdata?path=workflows')).json()).toEqual([
    { name: '100%41.json', path: 'workflows/100%41.json', type: 'file', size: 1, modified: 1_700_000_000.5 },
    { name: 'a.json', path: 'workflows/a.json', type: 'file', size: 8, modified: 1_700_000_000.5 },
  ])
  expect((await app.get('/userdata/workflows%2Fa.json')).body).toBe('{"a": 1}')
  expect((await app.get('/userdata/ComfyUI-Manager%2Fconfig.ini')).statusCode).toBe(404)
  expect((await app.get('/users')).json()).toEqual({ storage: 'server', migrated: true })

  await app.ask('DELETE', '/userdata/workflows%2Fa.json')
  await app.restart()
  expect((await app.get('/userdata/workflows%2Fa.json')).statusCode).toBe(404)
  expect((await app.get('/settings')).json()).toHaveProperty(['Comfy.Old'])
  expect([asks(app, 'GET /settings'), asks(app, 'GET /v2/userdata')]).toEqual([1, 1])
})

it('lets what was written before stand', async () => {
  const app = await startUsed({ isUp: false })
  await app.post('/settings', '{"Comfy.Both": "ours"}')
  await app.post('/userdata/workflows%2Fa.json', 'ours')
  await app.post('/userdata/workflows%2F100%2525%2534%2531.json', 'ours')
  await app.ask('DELETE', '/userdata/workflows%2F100%2525%2534%2531.json')
  expect((await app.get('/settings')).json()).toEqual({ 'Comfy.Both': 'ours' })
  app.state.isUp = true
  expect((await app.get('/settings')).json()).toEqual({ 'Comfy.Both': 'ours', 'Comfy.Old': 1 })
  expect((await app.get('/userdata/workflows%2Fa.json')).body).toBe('ours')
  expect((await app.get('/userdata?dir=workflows')).json()).toEqual(['a.json'])
})

it('is empty when the worker fails, and tries again a minute later', async () => {
  const app = await startUsed()
  app.worker.faults.set('GET /settings', { kind: 'status', status: 500 }, { times: 1 })
  app.worker.faults.set('GET /userdata/workflows%2Fa.json', { kind: 'truncated' }, { times: 1 })
  for (let index = 0; index < 3; index++) {
    expect((await app.get('/settings')).body).toBe('{}')
    expect((await app.get('/userdata/workflows%2Fa.json')).statusCode).toBe(404)
    app.state.nowMs += 10_000
  }
  expect(asks(app, 'GET /settings')).toBe(1)
  app.state.nowMs += 60_000
  expect((await app.get('/settings')).json()).toHaveProperty(['Comfy.Old'])
  expect((await app.get('/userdata/workflows%2Fa.json')).body).toBe('{"a": 1}')
})

it('does not keep clients waiting for a worker that does not answer', async () => {
  const app = await startUsed({ limits: { waitMs: 50 } })
  app.worker.faults.set('GET /settings', { kind: 'hang' }, { times: 1 })
  const since = performance.now()
  expect((await app.get('/settings')).body).toBe('{}')
  expect(performance.now() - since).toBeLessThan(1_500)
})

it('is for the open owner alone', async () => {
  const app = await startUsed()
  expect((await app.get('/settings', { 'x-owner': 'key:1' })).body).toBe('{}')
  expect((await app.get('/v2/userdata', { 'x-owner': 'key:1' })).body).toBe('[]')
  expect(asks(app, 'GET /settings')).toBe(0)
})

it('leaves a worker alone that asks who its user is', async () => {
  const app = await startUsed()
  app.worker.faults.set('GET /settings', { kind: 'status', status: 401 })
  app.worker.faults.set('GET /v2/userdata', { kind: 'status', status: 403 })
  for (let index = 0; index < 2; index++) {
    expect((await app.get('/settings')).body).toBe('{}')
    expect((await app.get('/v2/userdata')).body).toBe('[]')
    app.state.nowMs += 100_000
  }
  expect([asks(app, 'GET /settings'), asks(app, 'GET /v2/userdata')]).toEqual([1, 1])
})

it('is bounded in files and bytes, and reads no names that lead elsewhere', async () => {
  const app = await startUserdata({ limits: { files: 5, bytes: 20 } })
  const put = (path: string, size: number) =>
    app.worker.userdata.set(path, { bytes: Buffer.alloc(size), modifiedS: 1_700_000_000 })
  put('../../evil', 1)
  put('/etc/evil', 1)
  put('a', 5)
  put('b', 30)
  put('c', 10)
  put(`d${'x'.repeat(300)}`, 1)
  put('e', 1)
  put('f', 1)
  expect((await app.get('/userdata?dir=.')).json()).toEqual(['a', 'c', 'e'])
  expect(await app.onDisk()).toHaveLength(3)
})
