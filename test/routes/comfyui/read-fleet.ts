import Fastify, { type FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import type { Identity } from '../../../src/auth/identity.ts'
import { createSealer } from '../../../src/auth/sealer.ts'
import type { SimulatedWorker, SimulatedWorkerOptions } from '../../../src/demo/simulated-worker.ts'
import { createSimulatedWorker } from '../../../src/demo/simulated-worker.ts'
import { InputDelivery } from '../../../src/files/delivery.ts'
import { createWorkerDisks } from '../../../src/files/disks.ts'
import { createFileLocator } from '../../../src/files/locate.ts'
import { Dispatcher } from '../../../src/queue/dispatcher.ts'
import { createPromptEvents } from '../../../src/queue/events.ts'
import { PromptHistory } from '../../../src/queue/history.ts'
import { PromptQueue } from '../../../src/queue/queue.ts'
import { QueueListing } from '../../../src/queue/queue-listing.ts'
import { Submission } from '../../../src/queue/submission.ts'
import { RecentLog } from '../../../src/recent-log.ts'
import { historyRoutes } from '../../../src/routes/comfyui/history.ts'
import { internalRoutes } from '../../../src/routes/comfyui/internal.ts'
import { interruptRoutes } from '../../../src/routes/comfyui/interrupt.ts'
import { jobRoutes } from '../../../src/routes/comfyui/jobs.ts'
import { modelRoutes } from '../../../src/routes/comfyui/models.ts'
import { objectInfoRoutes } from '../../../src/routes/comfyui/object-info.ts'
import { queueRoutes } from '../../../src/routes/comfyui/queue.ts'
import { systemRoutes } from '../../../src/routes/comfyui/system.ts'
import { viewRoutes } from '../../../src/routes/comfyui/view.ts'
import { answerErrors } from '../../../src/routes/error-handler.ts'
import { leastLoaded } from '../../../src/scheduler/least-loaded.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'
import { WorkerCatalogue } from '../../../src/workers/catalogue.ts'
import { createFleetFeatures } from '../../../src/workers/fleet-features.ts'
import { FleetObjectInfo } from '../../../src/workers/fleet-object-info.ts'
import { FleetReader } from '../../../src/workers/fleet-reader.ts'
import { createFleetStats } from '../../../src/workers/fleet-stats.ts'
import { WorkerRegistry } from '../../../src/workers/registry.ts'
import { createWorkerRecords, diskOf } from '../../../src/workers/worker-records.ts'

const monotonicNow = (): number => performance.now()
const DEADLINE_MS = 10_000

/** Polls until the condition holds; fails after a deadline. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

export type Fleet = Awaited<ReturnType<typeof startFleet>>

/** The read side of the contract over simulated workers; who asks is what the headers `x-owner` and `x-caller` say. */
export async function startFleet(
  options: {
    workers?: readonly SimulatedWorkerOptions[]
    /** Addresses without a worker behind. */
    urls?: readonly string[]
    listLimit?: number
    requestTimeoutMs?: number
    objectInfo?: { maxAgeMs?: number; waitMs?: number }
  } = {},
) {
  const log = pino({ level: 'silent' })
  const workers: SimulatedWorker[] = []
  for (const [index, each] of (options.workers ?? [{}]).entries()) {
    workers.push(await createSimulatedWorker({ seed: index + 1, ...each }))
  }
  const store = createMemoryStore()
  const sealer = createSealer(new Uint8Array(32))
  const catalogue = new WorkerCatalogue({ now: monotonicNow })
  const registry = new WorkerRegistry({
    records: createWorkerRecords(store.records, sealer),
    catalogue,
    settings: {
      defaultAuth: undefined,
      sharesDefaultAuth: false,
      health: {
        fall: 3,
        rise: 1,
        suspectAfterMs: 15_000,
        refusedGiveUpMs: 500,
        giveUpMs: 120_000,
        tripAfter: 3,
        tripMs: 10_000,
        tripMaxMs: 120_000,
      },
      checkIntervalMs: 100,
      checkTimeoutMs: 2_000,
      reconcileIntervalMs: 200,
      connectTimeoutMs: 1_000,
      requestTimeoutMs: options.requestTimeoutMs ?? 5_000,
      pingIntervalMs: 20_000,
      prefetch: 1,
    },
    log,
    now: monotonicNow,
  })
  const urls = [...workers.map(({ url }) => url), ...(options.urls ?? [])]
  await registry.load(
    urls.map((url, index) => ({
      url,
      name: `gpu${index + 1}`,
      weight: 1,
      slots: 1,
      tags: [],
      headers: { 'x-operator': 'set' },
      metadata: {},
    })),
  )
  const events = createPromptEvents()
  const queue = new PromptQueue({ store: store.prompts, events, maxQueue: 100_000, idempotencyMs: 600_000, log })
  const stopping = new AbortController()
  const dispatcher = new Dispatcher({
    queue,
    store: store.prompts,
    events,
    registry,
    disks: createWorkerDisks({ store: store.prompts, renew: (worker) => registry.renewDisk(worker) }),
    sealer,
    inputs: new InputDelivery({ blobs: { open: async () => undefined } }),
    policy: leastLoaded,
    settings: { maxAttempts: 3, maxWorkerDeaths: 2, rerunPaid: false, stallMs: 0 },
    promptTimeoutMs: 5_000,
    fence: () => 1,
    tellAll: () => undefined,
    log,
    now: monotonicNow,
    signal: stopping.signal,
  })
  const submission = new Submission({
    store: store.prompts,
    queue,
    dispatcher,
    registry,
    catalogue,
    sealer,
    inputs: { bind: async () => [] },
    verdictTimeoutMs: 1_000,
    signal: stopping.signal,
    log,
  })

  const history = new PromptHistory({ store: store.prompts, events, listLimit: options.listLimit ?? 200 })
  const reader = new FleetReader({ registry, now: monotonicNow, log })
  const listing = new QueueListing({ queue, store: store.prompts })
  const app: FastifyInstance = Fastify({ exposeHeadRoutes: true })
  app.decorateRequest('identity')
  app.addHook('onRequest', async (request) => {
    request.identity = {
      owner: String(request.headers['x-owner'] ?? 'open'),
      caller: String(request.headers['x-caller'] ?? 'a'),
    }
  })
  answerErrors(app, { maxBodyBytes: 1_000_000 })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  for (const prefix of ['', '/api']) {
    await app.register(queueRoutes({ queue, listing, registry, dispatcher }), { prefix })
    await app.register(interruptRoutes({ queue, dispatcher, registry }), { prefix })
    await app.register(historyRoutes({ history, queue }), { prefix })
    await app.register(
      objectInfoRoutes({
        objectInfo: new FleetObjectInfo({ catalogue, registry, now: monotonicNow, ...options.objectInfo }),
      }),
      { prefix },
    )
    await app.register(modelRoutes({ reader }), { prefix })
    await app.register(
      systemRoutes({
        fleetStats: createFleetStats({ registry, reader }),
        fleetFeatures: createFleetFeatures({ registry, maxUploadBytes: 104_857_600 }),
      }),
      { prefix },
    )
    await app.register(
      viewRoutes({
        registry,
        locate: createFileLocator({
          store: store.prompts,
          diskOf,
          workerOfToken: (token) => {
            const found = registry.byToken(token)
            return found && { workerId: found.worker.id, isCurrent: found.isCurrent }
          },
        }),
      }),
      { prefix },
    )
  }
  await app.register(
    internalRoutes({
      recentLog: new RecentLog(),
      store: store.prompts,
      uiWorker: { current: async () => registry.list()[0] },
    }),
  )
  await app.register(jobRoutes({ store: store.prompts, queue, history, dispatcher }))
  await app.ready()

  registry.start(dispatcher)
  onTestFinished(async () => {
    await app.close()
    stopping.abort()
    await registry.close()
    for (const worker of workers) await worker.close()
    await store.close()
  })
  await until('workers are up', () => registry.list().filter(({ isUp }) => isUp).length === workers.length)

  const identityOf = (who: Partial<Identity>): Identity => ({ owner: 'open', caller: 'a', ...who })
  return {
    app,
    workers,
    store,
    registry,
    catalogue,
    queue,
    dispatcher,
    events,
    history,
    listing,
    workerOf: (simulated: SimulatedWorker | undefined) => {
      const worker = registry.list().find(({ config }) => config.url === simulated?.url)
      if (!worker) throw new Error('no such worker')
      return worker
    },
    async submit(body: object, who: Partial<Identity> = {}): Promise<string> {
      const answer = await submission.submit(Buffer.from(JSON.stringify(body)), identityOf(who), () => undefined)
      dispatcher.wake()
      return answer.record.promptId
    },
    /** Submits and waits for the end. */
    async run(body: object, who: Partial<Identity> = {}): Promise<string> {
      const promptId = await this.submit(body, who)
      await until('it has ended', () => queue.get(promptId) === undefined)
      return promptId
    },
    get: (url: string, headers: Record<string, string> = {}) => app.inject({ method: 'GET', url, headers }),
    post: (url: string, body: unknown, headers: Record<string, string> = {}) =>
      app.inject({
        method: 'POST',
        url,
        headers: { 'content-type': 'text/plain', ...headers },
        payload: typeof body === 'string' ? body : JSON.stringify(body),
      }),
  }
}

/** A graph that writes `<prefix>_00001_.png`. */
export const picture = (prefix = 'pic', color = 1): object => ({
  1: { class_type: 'EmptyImage', inputs: { width: 16, height: 16, batch_size: 1, color } },
  2: { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: prefix } },
})

/** A graph that runs for so many seconds. */
export const nap = (seconds: number, color = 1): object => ({
  1: { class_type: 'EmptyImage', inputs: { width: 16, height: 16, batch_size: 1, color } },
  2: { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds } },
  3: { class_type: 'SaveImage', inputs: { images: ['2', 0], filename_prefix: 'nap' } },
})
