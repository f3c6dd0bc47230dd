import { request } from 'node:http'
import { createServer } from 'node:net'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import WebSocket from 'ws'
import type { SimulatedWorkerOptions } from '../../src/demo/simulated-worker.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, historyOf, pictureGraph, submit } from '../support/comfy-client.ts'
import { freePort } from '../support/free-port.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

async function withEditor(workers: readonly SimulatedWorkerOptions[], env: Record<string, string> = {}) {
  const port = await freePort()
  fleet = await buildTestGateway({ workers, env: { EDITOR_PORT: String(port), ...env } })
  return { ...fleet, editor: `http://127.0.0.1:${port}`, port }
}

const two: SimulatedWorkerOptions[] = [
  { name: 'gpu 0', extensions: ['demo/panel'] },
  { name: 'gpu 1', extensions: ['demo/panel'] },
]
/** The worker that made a prompt's picture. */
const ranOn = ({ workers }: TestGateway, promptId: string) =>
  workers.find(({ ledger }) => ledger.runsOf(promptId).length > 0)?.name

/** `fetch` keeps some of these headers to itself. */
const statusOf = (url: string, headers: Record<string, string>) =>
  new Promise<number | undefined>((resolve, reject) => {
    request(url, { headers, agent: false }, (answer) => {
      answer.resume()
      resolve(answer.statusCode)
    })
      .on('error', reject)
      .end()
  })

describe("the editor's port", () => {
  it("serves one worker's front end as it is: page, scripts, extensions, with their caching", async () => {
    const { editor, workers } = await withEditor(two)
    const page = await fetch(editor)
    expect(page.status).toBe(200)
    expect(page.headers.get('content-type')).toBe('text/html')
    expect(page.headers.get('x-content-type-options')).toBe('nosniff')
    expect(page.headers.get('content-security-policy')).toBe("frame-ancestors 'self'")
    expect(page.headers.get('cache-control')).toBe('no-cache')
    const etag = page.headers.get('etag') ?? ''
    expect((await fetch(editor, { headers: { 'if-none-match': etag } })).status).toBe(304)
    const script = await fetch(`${editor}/assets/editor-0001.js`)
    expect([script.status, script.headers.get('content-type')]).toEqual([200, 'text/javascript'])
    const list = (await (await fetch(`${editor}/api/extensions`)).json()) as string[]
    expect(list).toContain('/extensions/demo/panel.js')
    expect((await fetch(`${editor}/extensions/demo/panel.js`)).status).toBe(200)
    expect((await fetch(`${editor}/assets/none.js`)).status).toBe(404)
    const asked = workers.filter(({ ledger }) => ledger.requestsOf('GET /').length > 0)
    expect(asked).toHaveLength(1)
  })

  it('has the whole contract', async () => {
    const { editor, url } = await withEditor(two)
    const { promptId } = await submit(editor, { prompt: pictureGraph() })
    const entry = await finished(editor, promptId)
    const { filename, subfolder, type } = entry.outputs['2']?.images?.[0] ?? { filename: '', subfolder: '', type: '' }
    const picture = await fetch(`${editor}/api/view?${new URLSearchParams({ filename, subfolder, type })}`)
    expect([picture.status, picture.headers.get('content-type')]).toEqual([200, 'image/png'])
    expect(await historyOf(url, promptId)).toBeDefined()
    for (const path of ['/api/queue', '/api/object_info/KSampler', '/api/jobs', '/system_stats', '/features']) {
      expect([path, (await fetch(editor + path)).status]).toEqual([path, 200])
    }
    const socket = new WebSocket(`${editor.replace('http', 'ws')}/ws`)
    onTestFinished(() => socket.terminate())
    const first = await new Promise<string>((resolve) => socket.once('message', (data) => resolve(String(data))))
    expect(JSON.parse(first)).toMatchObject({ type: 'status', data: { sid: expect.stringMatching(/^[0-9a-f]{32}$/) } })
  })

  it("has none of the gateway's own routes", async () => {
    const { editor, url } = await withEditor(two)
    for (const path of ['/api/workers', '/metrics', '/health', '/cluster/', '/api/gateway/docs']) {
      expect([path, (await fetch(editor + path)).status]).toEqual([path, 404])
    }
    expect(await (await fetch(url)).text()).not.toContain('Simulated editor')
  })

  it('is guarded as the other port: names and origins of others get nothing', async () => {
    const { editor, url } = await withEditor(two)
    expect((await fetch(editor, { headers: { origin: 'https://evil.example' } })).status).toBe(403)
    // Scripts of the editor's origin may not use the page's.
    expect((await fetch(`${url}/api/workers`, { headers: { origin: editor } })).status).toBe(403)
    expect((await fetch(`${editor}/prompt`, { headers: { origin: editor } })).status).toBe(200)
    const navigation = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
    expect(await statusOf(editor, navigation)).toBe(200)
    expect(await statusOf(`${editor}/api/queue`, navigation)).toBe(403)
  })

  it('says that it is away, and with which pause to try again, while no worker with its front end is up', async () => {
    const { editor, workers, gateway } = await withEditor([two[0] ?? {}, { version: '2026' }])
    expect((await fetch(editor)).status).toBe(200)
    const shown = workers.find(({ ledger }) => ledger.requestsOf('GET /').length > 0)
    await shown?.kill()
    await until(() => gateway.workers().some(({ state }) => state.kind !== 'healthy'))
    const page = await fetch(editor, { headers: { accept: 'text/html' } })
    expect([page.status, page.headers.get('retry-after')]).toEqual([503, '5'])
    expect(page.headers.get('content-type')).toContain('text/html')
    const script = await fetch(`${editor}/assets/editor-0001.js`)
    expect(script.status).toBe(503)
    expect(await script.json()).toMatchObject({ error: { type: 'no_worker' } })
    await shown?.start()
    await until(async () => (await fetch(editor)).status === 200)
  })

  it('is off with 0, and only missing when its port is taken', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => taken.once('listening', resolve))
    const address = taken.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    onTestFinished(() => void taken.close())
    fleet = await buildTestGateway({ workers: 1, env: { EDITOR_PORT: String(port) } })
    expect(fleet.gateway.editorUrl).toBeUndefined()
    expect((await fetch(`${fleet.url}/prompt`)).status).toBe(200)
    expect((await fetch(`${fleet.url}/comfy`, { redirect: 'manual' })).status).toBe(404)
  })

  it('is where /comfy leads', async () => {
    const { url, port } = await withEditor(two)
    for (const path of ['/comfy', '/comfy/']) {
      const answer = await fetch(`${url}${path}?worker=x`, { redirect: 'manual' })
      expect([answer.status, answer.headers.get('location')]).toEqual([302, `http://127.0.0.1:${port}/?worker=x`])
    }
  })
})

describe('?worker=', () => {
  it('binds a browser session to one worker: its files, its routes and its prompts', async () => {
    const built = await withEditor(two)
    const { editor, gateway, workers } = built
    for (const { id, config } of gateway.workers()) {
      const simulated = workers.find(({ url }) => url === config.url)
      const page = await fetch(`${editor}/?worker=${id}`)
      const cookie = page.headers.get('set-cookie') ?? ''
      expect(cookie).toMatch(/; HttpOnly/)
      expect(cookie).toMatch(/; SameSite=Strict/)
      const headers = { cookie: `other=1; ${cookie.split(';')[0]}` }
      const answer = await fetch(`${editor}/demo/echo?clientId=a`, { method: 'POST', headers })
      expect(((await answer.json()) as { worker: string }).worker).toBe(simulated?.name)
      const ids = await Promise.all(
        [1, 2, 3].map(async (colour) => {
          const body = JSON.stringify({ prompt: pictureGraph({ colour }) })
          const posted = await fetch(`${editor}/api/prompt`, { method: 'POST', headers, body })
          return ((await posted.json()) as { prompt_id: string }).prompt_id
        }),
      )
      for (const promptId of ids) {
        await finished(editor, promptId)
        expect(ranOn(built, promptId)).toBe(simulated?.name)
      }
    }
    const freed = (await fetch(`${editor}/?worker=`)).headers.get('set-cookie')
    expect(freed).toContain('Max-Age=0')
  })

  it('does not bind to a worker that is not there', async () => {
    const { editor, url } = await withEditor(two)
    const page = await fetch(`${editor}/?worker=none`)
    expect(page.status).toBe(400)
    expect(page.headers.get('set-cookie')).toBeNull()
    const answer = await fetch(`${url}/prompt?worker=none`, {
      method: 'POST',
      body: JSON.stringify({ prompt: pictureGraph() }),
    })
    expect(answer.status).toBe(400)
    expect(await answer.json()).toMatchObject({ error: { type: 'unknown_worker' }, node_errors: {} })
    const gone = await fetch(editor, { headers: { cookie: 'comfyfleet_worker=none' } })
    expect(gone.status).toBe(200)
  })

  it('places one prompt of a program on the worker that it names, on the main port, too', async () => {
    const built = await withEditor(two)
    const { url, gateway, workers } = built
    for (const { id, config } of gateway.workers()) {
      for (const colour of [1, 2]) {
        const body = JSON.stringify({ prompt: pictureGraph({ colour }) })
        const posted = await fetch(`${url}/prompt?worker=${id}`, { method: 'POST', body })
        const { prompt_id: promptId } = (await posted.json()) as { prompt_id: string }
        await finished(url, promptId)
        expect(ranOn(built, promptId)).toBe(workers.find((worker) => worker.url === config.url)?.name)
      }
    }
  })
})

describe('events of custom nodes', () => {
  async function listen(url: string, clientId: string) {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?clientId=${clientId}`)
    onTestFinished(() => socket.terminate())
    const heard: { type: string; data: Record<string, unknown> }[] = []
    socket.on('message', (data, isBinary) => {
      if (!isBinary) heard.push(JSON.parse(String(data)))
    })
    await new Promise((resolve) => socket.once('open', resolve))
    return heard
  }

  it('go to everybody while nothing of ours runs on their worker, but none that is about a prompt', async () => {
    const { url, editor, workers } = await withEditor(two)
    const heard = [await listen(url, 'a'), await listen(editor, 'b')]
    const [worker] = workers
    worker?.broadcast('status', { status: { exec_info: { queue_remaining: 77 } } })
    worker?.broadcast('feature_flags', { x: 1 })
    worker?.broadcast('progress', { value: 1, max: 2 })
    worker?.broadcast('pack.event', { prompt_id: 'somebody else' })
    worker?.broadcast('pack.event', { value: 1 })
    for (const list of heard) {
      await until(() => list.some(({ type }) => type === 'pack.event'))
      expect(list.filter(({ type }) => type !== 'status')).toEqual([{ type: 'pack.event', data: { value: 1 } }])
      expect(JSON.stringify(list)).not.toContain('77')
    }
  })

  it("go to the client whose prompt runs there, and not into others' runs", async () => {
    const { url, workers } = await withEditor([two[0] ?? {}])
    const mine = await listen(url, 'a')
    const others = await listen(url, 'b')
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 1 }), client_id: 'a' })
    await until(() => mine.some(({ type }) => type === 'execution_start'))
    workers[0]?.broadcast('pack.event', { value: 2 })
    await until(() => mine.some(({ type }) => type === 'pack.event'))
    await finished(url, promptId)
    workers[0]?.broadcast('pack.last', {})
    await until(() => others.some(({ type }) => type === 'pack.last'))
    expect(others.map(({ type }) => type)).not.toContain('pack.event')
  })
})
