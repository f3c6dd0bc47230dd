import { pino } from 'pino'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import { createComfyClient } from '../../src/comfyui/client.ts'
import { createEndpoint } from '../../src/comfyui/endpoint.ts'
import { createSimulatedWorker, type SimulatedWorkerOptions } from '../../src/demo/simulated-worker.ts'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import type { Store } from '../../src/store/store.ts'
import { UiWorker } from '../../src/workers/ui-worker.ts'
import type { Worker } from '../../src/workers/worker.ts'

const log = pino({ level: 'silent' })
let closing: (() => Promise<void>)[] = []
afterEach(async () => {
  await Promise.all(closing.map((close) => close()))
  closing = []
})

interface Parts {
  workers: Worker[]
  store: Store
  /** Moves the clock. */
  pass(ms: number): void
  make(): UiWorker
}

async function fleetOf(...options: SimulatedWorkerOptions[]): Promise<Parts> {
  const workers = await Promise.all(
    options.map(async (each, n) => {
      const simulated = await createSimulatedWorker(each)
      const endpoint = createEndpoint(simulated.url)
      const client = createComfyClient({ endpoint, connectTimeoutMs: 500, requestTimeoutMs: 2_000 })
      closing.push(
        () => simulated.close(),
        () => client.close(),
      )
      // The parts of a worker that are looked at here.
      return {
        id: `w${n}`,
        client,
        state: { kind: 'healthy' },
        config: { name: `w${n}`, enabled: true, draining: false },
      } as unknown as Worker
    }),
  )
  const store = createMemoryStore()
  onTestFinished(() => store.close())
  let now = 0
  return {
    workers,
    store,
    pass: (ms) => {
      now += ms
    },
    make: () =>
      new UiWorker({
        registry: { list: () => workers, get: (id) => workers.find((worker) => worker.id === id) },
        records: store.records,
        log,
        now: () => now,
      }),
  }
}

const setDown = (worker: Worker | undefined): void => {
  if (worker) worker.state = { kind: 'down', since: 0, reason: 'test' }
}
const setUp = (worker: Worker | undefined): void => {
  if (worker) worker.state = { kind: 'healthy' }
}

describe("the worker of the editor's files", () => {
  it('is the first healthy one, and the same after a restart of the gateway', async () => {
    const fleet = await fleetOf({}, {}, {})
    setDown(fleet.workers[0])
    expect((await fleet.make().current())?.id).toBe('w1')
    setUp(fleet.workers[0])
    expect((await fleet.make().current())?.id).toBe('w1')
  })

  it('is none while nobody is healthy, and found when somebody is', async () => {
    const fleet = await fleetOf({})
    setDown(fleet.workers[0])
    const ui = fleet.make()
    expect(await ui.current()).toBeUndefined()
    setUp(fleet.workers[0])
    fleet.pass(1_001)
    expect((await ui.current())?.id).toBe('w0')
  })

  it('is one that is in use before one that is to be drained', async () => {
    const fleet = await fleetOf({}, {})
    const [first] = fleet.workers
    if (first) first.config = { ...first.config, draining: true }
    expect((await fleet.make().current())?.id).toBe('w1')
  })

  it('changes only to one with the same front end and the same extensions', async () => {
    const fleet = await fleetOf(
      { extensions: ['a/x'] },
      { extensions: ['a/x'], version: '2026' },
      { extensions: ['a/x', 'b/y'] },
      { extensions: ['a/x'] },
    )
    const ui = fleet.make()
    expect((await ui.current())?.id).toBe('w0')
    setDown(fleet.workers[0])
    setDown(fleet.workers[3])
    expect(await ui.current()).toBeUndefined()
    setUp(fleet.workers[3])
    fleet.pass(1_001)
    expect((await ui.current())?.id).toBe('w3')
    setUp(fleet.workers[0])
    expect((await ui.current())?.id).toBe('w3')
    expect((await fleet.make().current())?.id).toBe('w3')
  })

  it('is chosen anew when it was removed', async () => {
    const fleet = await fleetOf({ extensions: ['a/x'] }, {})
    const ui = fleet.make()
    expect((await ui.current())?.id).toBe('w0')
    fleet.workers.shift()
    expect((await ui.current())?.id).toBe('w1')
  })

  it('is looked for once, whoever asks at the same time', async () => {
    const fleet = await fleetOf({})
    const ui = fleet.make()
    const found = await Promise.all(Array.from({ length: 20 }, () => ui.current()))
    expect(new Set(found.map((worker) => worker?.id))).toEqual(new Set(['w0']))
    expect((await fleet.store.records.get('ui-worker', 'ui'))?.version).toBe(1)
  })
})
