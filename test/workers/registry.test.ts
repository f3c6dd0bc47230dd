import { setTimeout as pause } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { createSealer } from '../../src/auth/sealer.ts'
import { createSimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import { WorkerCatalogue } from '../../src/workers/catalogue.ts'
import { WorkerRegistry } from '../../src/workers/registry.ts'
import { createWorkerRecords } from '../../src/workers/worker-records.ts'
import { until } from '../support/app.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const clean of cleanups.splice(0)) await clean()
})

/** A registry with one worker, on a store that takes its time. */
async function aRegistry() {
  const worker = await createSimulatedWorker()
  const store = createMemoryStore()
  const records = createWorkerRecords(
    {
      ...store.records,
      get: (...args) => store.records.get(...args),
      list: (...args) => store.records.list(...args),
      put: async (...args) => {
        await pause(20)
        return store.records.put(...args)
      },
    },
    createSealer(Buffer.alloc(32, 1)),
  )
  const now = () => performance.now()
  const registry = new WorkerRegistry({
    records,
    catalogue: new WorkerCatalogue({ now }),
    settings: {
      defaultAuth: undefined,
      sharesDefaultAuth: false,
      health: {
        fall: 3,
        rise: 2,
        suspectAfterMs: 3_000,
        refusedGiveUpMs: 300,
        giveUpMs: 5_000,
        tripAfter: 3,
        tripMs: 10_000,
        tripMaxMs: 120_000,
      },
      checkIntervalMs: 50,
      checkTimeoutMs: 1_000,
      reconcileIntervalMs: 500,
      connectTimeoutMs: 500,
      requestTimeoutMs: 2_000,
      pingIntervalMs: 20_000,
      prefetch: 1,
    },
    log: pino({ level: 'silent' }),
    now,
  })
  cleanups.push(
    () => registry.close(),
    () => worker.close(),
  )
  const added = await registry.add({ url: worker.url })
  await until(() => added.isUp)
  return { registry, added, worker, records }
}

describe('changes of one worker at the same moment', () => {
  it('all hold, and leave one socket to it', async () => {
    const { registry, added, worker, records } = await aRegistry()
    const { token } = added.config
    await Promise.all([
      registry.update(added.id, { headers: { 'x-one': '1' } }),
      registry.update(added.id, { weight: 7 }),
      registry.renewDisk(added),
      registry.update(added.id, { ca: undefined, auth: { username: 'u', password: 'p' } }),
    ])
    await until(() => added.isUp)
    const wanted = {
      headers: { 'x-one': '1' },
      weight: 7,
      token: `${token}-2`,
      auth: { username: 'u', password: 'p' },
    }
    expect(added.config).toMatchObject(wanted)
    expect((await records.load([]))[0]).toMatchObject({ ...wanted, upstreamClientId: added.config.upstreamClientId })
    await until(() => worker.openSockets === 1)
  })

  it('do not bring a worker back that is being removed', async () => {
    const { registry, added, worker, records } = await aRegistry()
    worker.killSockets()
    await Promise.allSettled([
      registry.remove(added.id),
      registry.renewDisk(added),
      registry.update(added.id, { weight: 7 }),
    ])
    await pause(100)
    expect(await records.load([])).toEqual([])
  })
})
