import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { OPEN_OWNER } from './auth/identity.ts'
import { createSealer } from './auth/sealer.ts'
import { isLoopbackHost } from './config/access.ts'
import type { Config } from './config/load.ts'
import { loadSecretKey } from './config/secret-key.ts'
import { DEFAULT_WORKER_URL, plainSeed } from './config/worker-seed.ts'
import { createInputBinder } from './files/bindings.ts'
import { openDiskBlobs } from './files/blobs/disk.ts'
import { createBlobSweeper } from './files/blobs/sweeper.ts'
import { InputDelivery } from './files/delivery.ts'
import { createWorkerDisks } from './files/disks.ts'
import { HeldImages } from './files/images/held-images.ts'
import { ResultImages } from './files/images/result-images.ts'
import { createFileLocator } from './files/locate.ts'
import { OutputCopies } from './files/outputs.ts'
import { createPixelWork } from './files/pixel-work.ts'
import { Uploads } from './files/uploads/uploads.ts'
import { Dispatcher } from './queue/dispatcher.ts'
import { createPromptEvents } from './queue/events.ts'
import { PromptHistory } from './queue/history.ts'
import { PromptQueue } from './queue/queue.ts'
import { QueueListing } from './queue/queue-listing.ts'
import { Submission } from './queue/submission.ts'
import { RecentLog } from './recent-log.ts'
import { createRelay } from './relay/relay.ts'
import { synthesise } from './relay/synthesise.ts'
import { leastLoaded } from './scheduler/least-loaded.ts'
import { createEditorServer, createServer, type ServerServices } from './server.ts'
import { openStore } from './store/open.ts'
import { SoleUse } from './store/sole-use.ts'
import { createUserData } from './userdata/user-data.ts'
import { WorkerCatalogue } from './workers/catalogue.ts'
import { createFleetFeatures } from './workers/fleet-features.ts'
import { FleetObjectInfo } from './workers/fleet-object-info.ts'
import { FleetReader } from './workers/fleet-reader.ts'
import { createFleetStats } from './workers/fleet-stats.ts'
import { WorkerRegistry } from './workers/registry.ts'
import { UiWorker } from './workers/ui-worker.ts'
import type { Worker } from './workers/worker.ts'
import { createWorkerRecords, diskOf } from './workers/worker-records.ts'

/** One gateway, composed and not yet listening. */
export interface Gateway {
  readonly app: FastifyInstance
  workers(): readonly Worker[]
  /** Address of the editor; undefined before `listen`, when it is off, and when its port was taken. */
  readonly editorUrl: string | undefined
  /** Takes up what a former process left, watches the workers, takes requests; answers the address. */
  listen(): Promise<string>
  /** Refuses new prompts, tells the clients, lets calls under way end, closes all. What runs on workers goes on there. */
  close(): Promise<void>
}

/** Stores that other gateways could open at the same time. */
const SHARED_STORES: ReadonlySet<Config['STORE']> = new Set(['mysql', 'redis'])
const PRUNE_INTERVAL_MS = 60_000
const SWEEP_INTERVAL_MS = 3_600_000
const TRIP = { tripAfter: 3, tripMs: 10_000, tripMaxMs: 120_000 }
/** Largest file of a worker that is brought to another one. */
const MAX_FETCHED_BYTES = 4 * 1024 ** 3
const monotonicNow = (): number => performance.now()

/**
 * Makes every part, in the order of their needs, and hands each what it needs. Throws when the store cannot be opened or
 * a setting cannot be used. `recentLog` is what the log is also written to. `onLost` is called when another gateway has
 * taken the store over, after which nothing of this one counts.
 */
export async function createApp(
  config: Config,
  {
    log,
    recentLog = new RecentLog(),
    onLost = () => log.fatal('another gateway has taken the store over'),
  }: { log: Logger; recentLog?: RecentLog; onLost?: () => void },
): Promise<Gateway> {
  const stopping = new AbortController()
  const store = await openStore({
    kind: config.STORE,
    dataDir: config.DATA_DIR,
    sqliteSync: config.SQLITE_SYNC,
    redis: redisSettings(config, log),
    mysql: mysqlOptions(config, log),
  })
  const sealer = createSealer(loadSecretKey({ configured: config.SECRET_KEY, dataDir: config.DATA_DIR }))
  const soleUse = await SoleUse.take({
    leases: store.leases,
    holder: SHARED_STORES.has(config.STORE) ? randomUUID() : 'gateway',
    ttlMs: config.LEASE_MS,
    renewMs: config.LEASE_RENEW_MS,
    onLost,
    log,
  }).catch(async (error: unknown) => {
    await store.close()
    throw error
  })

  const catalogue = new WorkerCatalogue({ now: monotonicNow })
  const registry = new WorkerRegistry({
    records: createWorkerRecords(store.records, sealer),
    catalogue,
    settings: registrySettings(config),
    log,
    now: monotonicNow,
  })
  await registry.load(config.workers.length > 0 ? config.workers : [plainSeed({ url: DEFAULT_WORKER_URL })])

  const blobs = await openDiskBlobs({ folder: join(config.DATA_DIR, 'blobs') })
  const uploads = new Uploads({ records: store.records, now: Date.now })
  const locate = createFileLocator({
    store: store.prompts,
    workerOfToken: (token) => {
      const found = registry.byToken(token)
      return found && { workerId: found.worker.id, isCurrent: found.isCurrent }
    },
    diskOf,
    uploadOf: async (owner, name) => (await uploads.find(owner, name))?.hash,
    copyOf: (file) => copies.find(file),
  })
  const pixels = createPixelWork({ blobs, registry, locate, maxBytes: config.MAX_BODY_BYTES })

  const inputs = new InputDelivery({ blobs })
  const heldImages = new HeldImages({
    records: store.records,
    blobs,
    isUsedElsewhere: async (hash) => copies.isUsed(hash) || isBound(hash) || uploads.isUsed(hash),
    now: Date.now,
    log,
  })
  const binder = createInputBinder({
    uploads,
    blobs,
    images: heldImages,
    locate,
    registry,
    maxBytes: MAX_FETCHED_BYTES,
    log,
  })
  const events = createPromptEvents()
  const queue = new PromptQueue({
    store: store.prompts,
    events,
    maxQueue: config.MAX_QUEUE,
    idempotencyMs: config.IDEMPOTENCY_SECONDS * 1_000,
    log,
  })
  const isBound = (hash: string): boolean => {
    for (const { record } of queue.all()) if (record.traits.inputs.some((input) => input.hash === hash)) return true
    return false
  }
  const isBroughtOrBound = async (hash: string): Promise<boolean> =>
    isBound(hash) || (await uploads.isUsed(hash)) || heldImages.isUsed(hash)
  const resultImages = new ResultImages({ events, store: store.prompts, registry })
  const copies = new OutputCopies({
    records: store.records,
    blobs,
    events,
    store: store.prompts,
    registry,
    maxBytes: config.OUTPUT_CACHE_BYTES,
    isUsedElsewhere: isBroughtOrBound,
    now: Date.now,
    log,
  })
  const sweeper = createBlobSweeper({
    blobs,
    isUsed: async (hash) => copies.isUsed(hash) || isBroughtOrBound(hash),
  })
  const dispatcher = new Dispatcher({
    queue,
    store: store.prompts,
    events,
    registry,
    disks: createWorkerDisks({ store: store.prompts, renew: (worker) => registry.renewDisk(worker) }),
    sealer,
    inputs,
    policy: leastLoaded,
    settings: {
      maxAttempts: config.MAX_ATTEMPTS,
      maxWorkerDeaths: config.MAX_WORKER_DEATHS,
      rerunPaid: config.RERUN_PAID,
      stallMs: config.STALL_SECONDS * 1_000,
    },
    promptTimeoutMs: config.PROMPT_TIMEOUT_MS,
    fence: () => soleUse.fence,
    tellAll: (type, text) => relay.broadcast(OPEN_OWNER, type, text),
    log,
    now: monotonicNow,
    signal: stopping.signal,
  })
  const submission = new Submission({
    queue,
    dispatcher,
    registry,
    catalogue,
    sealer,
    inputs: binder,
    store: store.prompts,
    verdictTimeoutMs: config.VERDICT_TIMEOUT_MS,
    signal: stopping.signal,
    log,
  })
  const fleetFeatures = createFleetFeatures({ registry, maxUploadBytes: config.MAX_BODY_BYTES })
  const relay = createRelay({
    events,
    delivery: config.WS_DELIVERY,
    statusCount: config.STATUS_COUNT,
    fleetCount: () => [...queue.all()].length,
    holdBytes: config.HOLD_BYTES,
    bufferBytes: config.WS_BUFFER_BYTES,
    replayMs: config.REPLAY_SECONDS * 1_000,
    spoolDir: join(config.DATA_DIR, 'spool'),
    features: fleetFeatures,
    onTold: (promptIds) => {
      store.prompts
        .markTold(promptIds)
        .catch((error: unknown) => log.warn({ err: error }, 'who was told is not stored'))
    },
    log,
  })

  const history = new PromptHistory({ store: store.prompts, events, listLimit: config.HISTORY_LIST })
  const reader = new FleetReader({ registry, now: monotonicNow, log })
  const uiWorker = new UiWorker({ registry, records: store.records, log, now: monotonicNow })
  let isLoaded = false
  let isClosing = false
  let editorUrl: string | undefined
  const services: ServerServices = {
    submission,
    dispatcher,
    queue,
    registry,
    relay,
    reader,
    prompts: store.prompts,
    records: store.records,
    history,
    listing: new QueueListing({ queue, store: store.prompts }),
    objectInfo: new FleetObjectInfo({ catalogue, registry, now: monotonicNow }),
    fleetStats: createFleetStats({ registry, reader }),
    fleetFeatures,
    locate,
    blobs,
    uploads,
    pixels,
    heldImages,
    resultImages,
    userData: createUserData({
      dir: join(config.DATA_DIR, 'userdata'),
      records: store.records,
      uiWorker,
      now: monotonicNow,
      log,
    }),
    uiWorker,
    recentLog,
    isLoaded: () => isLoaded,
    isStopping: () => stopping.signal.aborted || isClosing,
    now: monotonicNow,
  }
  const app = await createServer({
    config,
    log,
    services,
    editorPort: () => (editorUrl === undefined ? undefined : config.EDITOR_PORT),
  })
  const editor = config.EDITOR_PORT === 0 ? undefined : await createEditorServer({ config, log, services })

  const timers = [
    setInterval(() => void prune(), PRUNE_INTERVAL_MS),
    setInterval(() => void sweep(), SWEEP_INTERVAL_MS),
  ]
  async function prune(): Promise<void> {
    try {
      const removed = await store.prompts.prune({
        maxEntries: config.HISTORY_MAX_ENTRIES || undefined,
        maxAgeMs: config.HISTORY_MAX_AGE_DAYS * 86_400_000 || undefined,
      })
      if (removed === 0) return
      history.changed()
      log.info({ removed }, 'old history was removed')
    } catch (error) {
      log.warn({ err: error }, 'old history could not be removed')
    }
  }

  async function sweep(): Promise<void> {
    await heldImages.tidy()
    try {
      const { removed, bytes } = await sweeper.sweep(stopping.signal)
      if (removed > 0) log.info({ removed, bytes }, 'files that nobody uses were removed')
    } catch (error) {
      log.warn({ err: error }, 'files that nobody uses could not be removed')
    }
  }

  /** Takes up where a former process ended: before the first request and before workers are watched. */
  async function recover(): Promise<void> {
    await copies.load()
    const claimed = await queue.load()
    await dispatcher.adopt(claimed)
    for (const record of await store.prompts.untold(config.REPLAY_SECONDS * 1_000)) {
      const entry = await store.prompts.historyEntry(record.promptId)
      const messages = entry && synthesise(record.promptId, entry.text, Date.now())
      if (messages) relay.replay(record, messages)
    }
    const waiting = queue.waitingCount
    if (waiting + claimed.length > 0) log.info({ waiting, onWorkers: claimed.length }, 'took up unfinished prompts')
  }

  /** The gateway is there without it: another program may have the port. */
  async function listenForEditor(): Promise<void> {
    try {
      editorUrl = await editor?.listen({ host: config.HOST, port: config.EDITOR_PORT })
    } catch (error) {
      log.warn(
        { err: error, port: config.EDITOR_PORT },
        "the editor's port cannot be used; set another EDITOR_PORT, or 0",
      )
    }
  }

  return {
    app,
    workers: () => registry.list(),
    get editorUrl() {
      return editorUrl
    },
    async listen() {
      await recover()
      isLoaded = true
      registry.start(dispatcher)
      dispatcher.wake()
      const url = await app.listen({ host: config.HOST, port: config.PORT })
      await listenForEditor()
      return url
    },
    async close() {
      isClosing = true
      submission.stop()
      await dispatcher.stop(AbortSignal.timeout(config.PROMPT_TIMEOUT_MS))
      await Promise.all([app.close(), editor?.close()])
      for (const timer of timers) clearInterval(timer)
      history.close()
      resultImages.close()
      stopping.abort()
      await copies.close()
      await registry.close()
      await soleUse.release()
      await store.close()
    },
  }
}

function redisSettings(config: Config, log: Logger): Parameters<typeof openStore>[0]['redis'] {
  if (config.REDIS_URL === undefined) return undefined
  return {
    url: config.REDIS_URL,
    prefix: config.REDIS_PREFIX,
    timeoutMs: config.STORE_TIMEOUT_MS,
    historyMs: config.HISTORY_MAX_AGE_DAYS > 0 ? config.HISTORY_MAX_AGE_DAYS * 86_400_000 : undefined,
    log,
  }
}

function mysqlOptions(config: Config, log: Logger): Parameters<typeof openStore>[0]['mysql'] {
  if (config.MYSQL_DATABASE === undefined || config.MYSQL_USER === undefined) return undefined
  return {
    settings: {
      host: config.MYSQL_HOST,
      port: config.MYSQL_PORT,
      user: config.MYSQL_USER,
      password: config.MYSQL_PASSWORD,
      database: config.MYSQL_DATABASE,
      tls: config.MYSQL_TLS,
      connections: config.MYSQL_CONNECTIONS,
    },
    timeoutMs: config.STORE_TIMEOUT_MS,
    maxBodyBytes: config.MAX_BODY_BYTES,
    warn: (sentence) => log.warn(sentence),
  }
}

function registrySettings(config: Config): ConstructorParameters<typeof WorkerRegistry>[0]['settings'] {
  return {
    defaultAuth:
      config.WORKER_AUTH_USERNAME === undefined
        ? undefined
        : { username: config.WORKER_AUTH_USERNAME, password: config.WORKER_AUTH_PASSWORD ?? '' },
    sharesDefaultAuth: isLoopbackHost(config.HOST),
    health: {
      fall: config.HEALTH_FALL,
      rise: config.HEALTH_RISE,
      suspectAfterMs: config.SUSPECT_AFTER_MS,
      refusedGiveUpMs: config.REFUSED_GIVE_UP_MS,
      giveUpMs: config.GIVE_UP_SECONDS * 1_000,
      ...TRIP,
    },
    checkIntervalMs: config.HEALTH_INTERVAL_MS,
    checkTimeoutMs: Math.max(config.HEALTH_INTERVAL_MS, 2_000),
    reconcileIntervalMs: config.QUEUE_CACHE_TTL_SECONDS * 1_000,
    connectTimeoutMs: config.CONNECT_TIMEOUT_MS,
    requestTimeoutMs: config.WORKER_REQUEST_TIMEOUT * 1_000,
    pingIntervalMs: config.PING_INTERVAL_MS,
    prefetch: config.PREFETCH,
  }
}
