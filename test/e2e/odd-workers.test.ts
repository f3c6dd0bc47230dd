import { afterEach, describe, expect, it } from 'vitest'
import { createSimulatedWorker, type SimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, pictureGraph, submit } from '../support/comfy-client.ts'
import { startWorkerFront } from '../support/worker-front.ts'

let fleet: TestGateway | undefined
const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
  for (const clean of cleanups.splice(0)) await clean()
})

const crash = (entry: Awaited<ReturnType<typeof finished>>) => entry.status.messages.at(-1)?.[1].exception_type

describe('a worker whose history cannot be read', () => {
  it.each([{ kind: 'status', status: 500 } as const, { kind: 'huge', bytes: 70 * 1024 * 1024 } as const])(
    'does not keep a prompt from its end ($kind)',
    { timeout: 60_000 },
    async (fault) => {
      fleet = await buildTestGateway({ workers: 2, env: { PROMPT_TIMEOUT_MS: '500' } })
      const { url, workers, gateway } = fleet
      for (const worker of workers) worker.faults.set('GET /history/*', fault)
      const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.2 }) })
      const runner = await until(() => workers.find(({ ledger }) => ledger.runs.length > 0))
      for (const worker of workers) if (worker !== runner) worker.faults.clear()
      expect((await finished(url, promptId, 50_000)).status.status_str).toBe('success')
      expect(workers.map(({ ledger }) => ledger.runsOf(promptId).length)).toEqual([1, 1])
      await until(() => gateway.workers().every(({ inFlight }) => inFlight.size === 0))
    },
  )
})

describe('a prompt that kills its worker before a word of it is heard', () => {
  it('is stopped after two deaths too', async () => {
    const made: SimulatedWorker[] = []
    for (let n = 0; n < 4; n++) {
      made.push(await createSimulatedWorker({ seed: n + 1, onKill: (worker) => void worker.restart() }))
    }
    cleanups.push(...made.map((worker) => () => worker.close()))
    fleet = await buildTestGateway({ running: made })
    const { url } = fleet
    for (const worker of made) worker.mute()
    const graph = {
      ...pictureGraph({ sleepS: 0.2 }),
      '9': { class_type: 'SaveImage', inputs: { images: ['3', 0], filename_prefix: 'POISON' } },
    }
    const { promptId } = await submit(url, { prompt: graph })
    expect(crash(await finished(url, promptId))).toBe('worker_crashed')
    expect(made.flatMap(({ ledger }) => ledger.runsOf(promptId))).toHaveLength(2)
  })

  it('costs the prompt behind it neither an attempt nor a death', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const first = await submit(url, { prompt: pictureGraph({ sleepS: 0.3 }) })
    await until(() => workers[0]?.ledger.runs.length === 1)
    const second = await submit(url, { prompt: pictureGraph({ colour: 3 }) })
    for (let n = 1; n <= 2; n++) {
      await until(() => workers[0]?.queueRemaining === 2 && workers[0].ledger.runsOf(first.promptId).length === n)
      await workers[0]?.restart()
    }
    expect(crash(await finished(url, first.promptId))).toBe('worker_crashed')
    expect((await finished(url, second.promptId)).status.status_str).toBe('success')
  })
})

describe('a worker that answers POST /prompt strangely', () => {
  it('does not turn a prompt that it took into an error of ours', async () => {
    const worker = await createSimulatedWorker()
    cleanups.push(() => worker.close())
    const deep = `${'['.repeat(600)}${']'.repeat(600)}`
    const { url, close } = await startWorkerFront(worker, 'POST /prompt', (answer) =>
      answer.replace('"node_errors": {}', `"node_errors": {"1": ${deep}}`),
    )
    cleanups.push(close)
    fleet = await buildTestGateway({ env: { WORKERS: url } })
    const answer = await submit(fleet.url, { prompt: pictureGraph() })
    expect([answer.status, JSON.parse(answer.text).node_errors]).toEqual([200, {}])
    await finished(fleet.url, answer.promptId)
  })
})

describe('a worker that goes silent while it is asked what it can run', () => {
  it('is noticed as soon as any other', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { GIVE_UP_SECONDS: '1' } })
    const { workers, gateway } = fleet
    const [worker] = workers
    worker?.faults.set('GET /object_info', { kind: 'hang' })
    const asked = () => worker?.ledger.requestsOf('GET /object_info').length ?? 0
    const before = asked()
    worker?.killSockets()
    await until(() => asked() > before)
    worker?.freeze()
    await until(() => gateway.workers()[0]?.state.kind === 'down', { deadlineMs: 8_000 })
  })
})
