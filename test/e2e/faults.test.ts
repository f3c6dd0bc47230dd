import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { Fault } from '../../src/demo/faults.ts'
import type { SimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { createSimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { SocketClient } from '../relay/socket-client.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, pictureGraph, submit } from '../support/comfy-client.ts'

let fleet: TestGateway | undefined
const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
  for (const clean of cleanups.splice(0)) await clean()
})

const runsOf = (workers: readonly SimulatedWorker[], promptId: string): number =>
  workers.reduce((sum, worker) => sum + worker.ledger.runsOf(promptId).length, 0)

const startedOn = (workers: readonly SimulatedWorker[], promptId: string): SimulatedWorker | undefined =>
  workers.find((worker) => worker.ledger.runsOf(promptId).some(({ outcome }) => outcome === 'running'))

describe('a worker that answers POST /prompt badly', () => {
  const faults: Fault[] = [
    { kind: 'status', status: 500 },
    { kind: 'status', status: 502 },
    { kind: 'status', status: 429 },
    { kind: 'html' },
    { kind: 'garbage' },
    { kind: 'empty' },
    { kind: 'empty-object' },
    { kind: 'not-http' },
    { kind: 'two-lengths' },
    { kind: 'truncated' },
    { kind: 'reset-before' },
    { kind: 'reset-after' },
    { kind: 'hang' },
    { kind: 'hang-after' },
    { kind: 'huge' },
    { kind: 'wrong-id' },
  ]
  it.each(faults)('costs no prompt and no second run ($kind $status)', async (fault) => {
    fleet = await buildTestGateway({ workers: 3, env: { PROMPT_TIMEOUT_MS: '800', MAX_BODY_BYTES: '1000000' } })
    const { url, workers } = fleet
    workers[0]?.faults.set('POST /prompt', fault)
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, n) => submit(url, { prompt: pictureGraph({ colour: n }) })),
    )
    for (const { status, text } of answers) expect(`${status} ${text}`).toMatch(/^200 .*"node_errors": \{\}/)
    const entries = await Promise.all(answers.map(({ promptId }) => finished(url, promptId)))
    expect(entries.map(({ status }) => status.status_str)).toEqual(answers.map(() => 'success'))
    for (const { promptId } of answers) expect(runsOf(workers, promptId)).toBe(1)
  })
})

describe('a worker that dies or forgets', () => {
  it('loses no prompt when it is killed while one runs: it runs elsewhere, and its client is told once', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.4 }), client_id: 'c' })
    const victim = await until(() => startedOn(workers, promptId))
    victim.kill()
    await client.untilTold(`executing ${promptId}:null`)
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    expect(runsOf(workers, promptId)).toBe(2)
    expect(client.plot.filter((line) => line.startsWith('execution_success'))).toHaveLength(1)
    expect(client.plot.filter((line) => line === `executing ${promptId}:null`)).toHaveLength(1)
    await client.leave()
  })

  it('notices a worker that restarted at once with an empty queue', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.4 }) })
    const victim = await until(() => startedOn(workers, promptId))
    await victim.restart()
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    expect(runsOf(workers, promptId)).toBe(2)
  })

  it('notices a worker that forgot what it ran while it lives on', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.4 }) })
    const victim = await until(() => startedOn(workers, promptId))
    victim.forget()
    expect((await finished(url, promptId)).status.status_str).toBe('success')
  })

  it('goes on listening when its socket breaks in the middle of a run', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 1 }), client_id: 'c' })
    const worker = await until(() => startedOn(workers, promptId))
    worker.killSockets()
    await client.untilTold(`executing ${promptId}:null`)
    expect(runsOf(workers, promptId)).toBe(1)
    expect(client.plot.filter((line) => line.startsWith('executed'))).toEqual([`executed ${promptId}:2`])
    expect(client.plot.filter((line) => line.startsWith('execution_success'))).toHaveLength(1)
    await client.leave()
  })

  it('learns the end from history when the worker says nothing by socket', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    workers[0]?.mute()
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.3 }), client_id: 'c' })
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    await client.untilTold(`executing ${promptId}:null`)
    expect(client.plot).toContain(`executed ${promptId}:2`)
    expect(runsOf(workers, promptId)).toBe(1)
    await client.leave()
  })

  it('runs a prompt again soon when its worker restarts while the result is fetched', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const [worker] = workers
    worker?.faults.set('GET /history/*', { kind: 'hang' })
    const { promptId } = await submit(url, { prompt: pictureGraph() })
    await until(() => worker?.ledger.requests.some(({ path }) => path.startsWith('/history/')))
    worker?.faults.clear()
    await worker?.restart()
    expect((await finished(url, promptId, 4_000)).status.status_str).toBe('success')
    expect(runsOf(workers, promptId)).toBe(2)
  })

  it('keeps what a frozen worker has until it wakes up', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { GIVE_UP_SECONDS: '30' } })
    const { url, workers, gateway } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.3 }) })
    const worker = await until(() => startedOn(workers, promptId))
    worker.freeze()
    await until(() => gateway.workers()[0]?.state.kind === 'suspect')
    worker.thaw()
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    expect(runsOf(workers, promptId)).toBe(1)
  })

  it('gives a worker up that stays frozen, and refuses its late result', async () => {
    fleet = await buildTestGateway({ workers: 2, env: { GIVE_UP_SECONDS: '1', HEALTH_INTERVAL_MS: '100' } })
    const { url, workers } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.5 }) })
    const worker = await until(() => startedOn(workers, promptId))
    worker.freeze()
    const other = await until(() => workers.find((each) => each !== worker && each.ledger.runsOf(promptId).length > 0))
    const entry = await finished(url, promptId)
    worker.thaw()
    await until(() => fleet?.gateway.workers().every(({ isUp }) => isUp))
    expect(await finished(url, promptId)).toEqual(entry)
    expect(other.ledger.runsOf(promptId)).toHaveLength(1)
  })

  it('stops a prompt after it has killed two workers, with a plain message', async () => {
    fleet = await buildTestGateway({ workers: 3 })
    const { url, workers } = fleet
    const graph = {
      ...pictureGraph(),
      '9': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'POISON' } },
    }
    const { promptId } = await submit(url, { prompt: graph })
    const entry = await finished(url, promptId)
    expect(entry.status.messages.at(-1)).toEqual([
      'execution_error',
      expect.objectContaining({ exception_type: 'worker_crashed', prompt_id: promptId }),
    ])
    expect(workers.filter(({ isListening }) => isListening)).toHaveLength(1)
  })
})

describe('a gateway that starts again', () => {
  it('adopts what still runs, keeps what waits, and tells each client the end', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'comfyfleet-'))
    const worker = await createSimulatedWorker()
    cleanups.push(
      () => worker.close(),
      () => rm(dataDir, { recursive: true, force: true }),
    )
    const options = { running: [worker], dataDir, env: { STORE: 'sqlite' } }
    fleet = await buildTestGateway(options)
    const submitted = []
    for (let n = 0; n < 4; n++) {
      submitted.push(await submit(fleet.url, { prompt: pictureGraph({ colour: n, sleepS: 0.5 }), client_id: 'c' }))
    }
    await until(() => worker.ledger.runs.length === 1)
    await fleet.close()
    fleet = await buildTestGateway(options)
    const client = await SocketClient.connect(`${fleet.url.replace('http', 'ws')}/ws?clientId=c`)
    for (const { promptId } of submitted) {
      await client.untilTold(`executing ${promptId}:null`)
      expect((await finished(fleet.url, promptId)).status.status_str).toBe('success')
      expect(worker.ledger.runsOf(promptId)).toHaveLength(1)
    }
    await client.leave()
  })
})
