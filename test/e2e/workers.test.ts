import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createSimulatedWorker, type SimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { SocketClient } from '../relay/socket-client.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, historyOf, pictureGraph, submit } from '../support/comfy-client.ts'
import { startTlsFront, testCa } from '../support/tls-front.ts'

let fleet: TestGateway | undefined
const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

const aWorker = async (options: Parameters<typeof createSimulatedWorker>[0] = {}): Promise<SimulatedWorker> => {
  const worker = await createSimulatedWorker(options)
  cleanups.push(() => worker.close())
  return worker
}

const aFolder = async (): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), 'comfyfleet-'))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  return dir
}

const runsWell = async (url: string, graph: object = pictureGraph()): Promise<void> => {
  const { status, promptId } = await submit(url, { prompt: graph })
  expect(status).toBe(200)
  expect((await finished(url, promptId)).status.status_str).toBe('success')
}

describe('how workers are reached', () => {
  it('sends its own Basic auth to each worker, the global one to the rest, on the socket too', async () => {
    const own = await aWorker({ auth: { username: 'own', password: 'päss:word' } })
    const rest = await aWorker({ auth: { username: 'all', password: 'global' } })
    fleet = await buildTestGateway({
      env: {
        WORKERS: `${own.url.replace('://', '://own:p%C3%A4ss%3Aword@')} ${rest.url}`,
        WORKER_AUTH_USERNAME: 'all',
        WORKER_AUTH_PASSWORD: 'global',
      },
    })
    for (let n = 0; n < 4; n++) await runsWell(fleet.url, pictureGraph({ colour: n }))
    expect([own.ledger.runs.length, rest.ledger.runs.length]).toEqual([2, 2])
    expect(own.openSockets + rest.openSockets).toBe(2)
    const listed = await (await fetch(`${fleet.url}/api/workers`)).text()
    expect(listed).not.toMatch(/päss|global/)
  })

  it("says so when a worker's password is wrong, and goes on with the others", async () => {
    const closed = await aWorker({ auth: { username: 'u', password: 'right' } })
    const open = await aWorker()
    fleet = await buildTestGateway({ env: { WORKERS: `${closed.url} ${open.url}` }, untilHealthy: false })
    const { gateway } = fleet
    await until(() => gateway.workers().some(({ isUp }) => isUp))
    const stateOf = (worker: SimulatedWorker) =>
      gateway.workers().find(({ config }) => config.url === worker.url)?.state
    await until(() => stateOf(closed)?.kind !== 'connecting')
    expect(stateOf(closed)).toMatchObject({ reason: expect.stringContaining('401') })
    await runsWell(fleet.url)
  })

  it('trusts a private certificate authority for the worker that names it, and for no other', async () => {
    const worker = await aWorker()
    const front = await startTlsFront(worker.port)
    const stranger = await startTlsFront(worker.port)
    cleanups.push(front.close, stranger.close)
    const dir = await aFolder()
    await writeFile(join(dir, 'ca.pem'), testCa())
    await writeFile(join(dir, 'workers.yaml'), `- url: ${front.url}\n  ca: ca.pem\n- url: ${stranger.url}\n`)
    fleet = await buildTestGateway({ env: { WORKERS_FILE: join(dir, 'workers.yaml') }, untilHealthy: false })
    const { gateway } = fleet
    await until(() => gateway.workers().some(({ isUp }) => isUp))
    await runsWell(fleet.url)
    const untrusted = gateway.workers().find(({ config }) => config.url === stranger.url)
    expect(untrusted?.isUp).toBe(false)
    expect(untrusted?.state).toMatchObject({ reason: expect.stringMatching(/certificate/i) })
  })

  it('starts although no worker can be reached, takes prompts, and runs them when one appears', async () => {
    const port = await new Promise<number>((resolve) => {
      const server = createServer().listen(0, '127.0.0.1', () => {
        const address = server.address()
        server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
      })
    })
    fleet = await buildTestGateway({ env: { WORKERS: `http://127.0.0.1:${port}` }, untilHealthy: false })
    const { url } = fleet
    const { status, promptId } = await submit(url, { prompt: pictureGraph() })
    expect(status).toBe(200)
    expect(await historyOf(url, promptId)).toBeUndefined()
    await aWorker({ port })
    expect((await finished(url, promptId)).status.status_str).toBe('success')
  })
})

describe('releases of 2025 and 2026 in one fleet', () => {
  it('run prompts with any id, and clients keep theirs everywhere', async () => {
    const old = await aWorker({ version: '0.3.64' })
    const current = await aWorker({ version: '2026' })
    fleet = await buildTestGateway({ env: { WORKERS: `${old.url} ${current.url}` } })
    const { url } = fleet
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`, {
      features: { supports_preview_metadata: true },
    })
    for (let n = 0; n < 4; n++) {
      const id = `my id/${n}`
      const answer = await submit(url, { prompt: pictureGraph({ colour: n }), prompt_id: id, client_id: 'c' })
      expect([answer.status, answer.promptId]).toEqual([200, id])
      await client.untilTold(`executing ${id}:null`)
      const entry = await finished(url, id)
      expect(entry.prompt[1]).toBe(id)
      expect(entry.prompt[3]).toMatchObject({ client_id: 'c' })
      for (const [, data] of entry.status.messages) expect(data.prompt_id).toBe(id)
    }
    expect([old.ledger.runs.length, current.ledger.runs.length]).toEqual([2, 2])
    const ids = current.ledger.runs.map(({ promptId }) => promptId)
    for (const id of ids) {
      expect(id).toMatch(/^[0-9a-f-]{36}$/)
      expect(client.story.join()).not.toContain(id)
    }
    await client.leave()
  })
})

describe('a worker whose answers cannot be trusted', () => {
  it.each(['html', 'garbage', 'empty', 'empty-object', 'truncated', 'huge'] as const)(
    'brings no prompt to a wrong end when its history is %s for a while',
    async (kind) => {
      const worker = await aWorker()
      fleet = await buildTestGateway({ env: { WORKERS: worker.url, GIVE_UP_SECONDS: '20' } })
      const { url } = fleet
      worker.faults.set('GET /history/*', { kind, ...(kind === 'huge' ? { bytes: 100_000 } : {}) }, { times: 2 })
      const { promptId } = await submit(url, { prompt: pictureGraph() })
      const entry = await finished(url, promptId)
      expect(entry.status.status_str).toBe('success')
      expect(Object.keys(entry.outputs)).toEqual(['2'])
      expect(worker.ledger.runsOf(promptId)).toHaveLength(1)
    },
  )

  it('is not used while its object_info is garbage', async () => {
    const bad = await aWorker()
    bad.faults.set('GET /object_info', { kind: 'garbage' })
    const good = await aWorker()
    fleet = await buildTestGateway({ env: { WORKERS: `${bad.url} ${good.url}` }, untilHealthy: false })
    const { gateway, url } = fleet
    await until(() => gateway.workers().some(({ isUp }) => isUp))
    for (let n = 0; n < 3; n++) await runsWell(url, pictureGraph({ colour: n }))
    expect(bad.ledger.runs).toEqual([])
    bad.faults.clear()
    await until(() => gateway.workers().every(({ isUp }) => isUp))
  })
})

describe('a prompt that does not move', () => {
  it('is tried elsewhere after STALL_SECONDS, and its worker gets nothing new', async () => {
    fleet = await buildTestGateway({ workers: 2, env: { STALL_SECONDS: '1' } })
    const { url, workers, gateway } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 30 }) })
    const stuck = await until(() => workers.find(({ ledger }) => ledger.runs.length > 0))
    stuck.mute()
    stuck.faults.set('POST /interrupt', { kind: 'status', status: 200, body: '' })
    const other = await until(() => workers.find((each) => each !== stuck && each.ledger.runs.length > 0))
    expect(gateway.workers().find(({ config }) => config.url === stuck.url)?.isUp).toBe(false)
    expect(other.ledger.runsOf(promptId)).toHaveLength(1)
    await fetch(`${url}/interrupt`, { method: 'POST' })
    await finished(url, promptId)
  })
})

describe('a prompt with paid nodes', () => {
  it('is not run again after it may have been paid for', async () => {
    const extraClasses = [{ name: 'PaidImage', apiNode: true }]
    fleet = await buildTestGateway({ workers: [{ extraClasses }, { extraClasses }] })
    const { url, workers } = fleet
    const graph = { ...pictureGraph({ sleepS: 5 }), '7': { class_type: 'PaidImage', inputs: {} } }
    const { promptId } = await submit(url, { prompt: graph })
    const busy = await until(() => workers.find(({ ledger }) => ledger.runs.length > 0))
    busy.kill()
    const entry = await finished(url, promptId)
    expect(entry.status.messages.at(-1)?.[1]).toMatchObject({ exception_type: 'paid_not_rerun' })
    expect(workers.flatMap(({ ledger }) => ledger.runsOf(promptId))).toHaveLength(1)
  })
})

describe('prompts that others put on a worker', () => {
  it('count as its load, and are never touched', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers, gateway } = fleet
    const [busy, free] = workers
    const direct = await submit(busy?.url ?? '', { prompt: pictureGraph({ sleepS: 3 }) })
    await until(() => gateway.workers().some(({ foreignRunning }) => foreignRunning === 1))
    for (let n = 0; n < 4; n++) await runsWell(url, pictureGraph({ colour: n }))
    expect(free?.ledger.runs).toHaveLength(4)
    expect(busy?.ledger.runsOf(direct.promptId)).toMatchObject([{ outcome: 'running' }])
  })
})
