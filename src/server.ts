import { fileURLToPath } from 'node:url'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyRequest, LogController } from 'fastify'
import type { Logger } from 'pino'
import { trustProxyOf } from './auth/caller-address.ts'
import { createGuard, installGuard } from './auth/guard.ts'
import { decorateIdentity } from './auth/request-identity.ts'
import type { Config } from './config/load.ts'
import type { BlobStore } from './files/blobs/blobs.ts'
import type { HeldImages } from './files/images/held-images.ts'
import type { ResultImages } from './files/images/result-images.ts'
import type { LocateFile } from './files/locate.ts'
import type { PixelWork } from './files/pixel-work.ts'
import type { Uploads } from './files/uploads/uploads.ts'
import type { Dispatcher } from './queue/dispatcher.ts'
import type { PromptHistory } from './queue/history.ts'
import type { PromptQueue } from './queue/queue.ts'
import type { QueueListing } from './queue/queue-listing.ts'
import type { Submission } from './queue/submission.ts'
import type { RecentLog } from './recent-log.ts'
import type { Relay } from './relay/relay.ts'
import { assetRoutes } from './routes/comfyui/assets.ts'
import { editorRedirect } from './routes/comfyui/editor-redirect.ts'
import { historyRoutes } from './routes/comfyui/history.ts'
import { internalRoutes } from './routes/comfyui/internal.ts'
import { interruptRoutes } from './routes/comfyui/interrupt.ts'
import { jobRoutes } from './routes/comfyui/jobs.ts'
import { modelRoutes } from './routes/comfyui/models.ts'
import { objectInfoRoutes } from './routes/comfyui/object-info.ts'
import { passThrough } from './routes/comfyui/pass-through.ts'
import { promptRoutes } from './routes/comfyui/prompt.ts'
import { queueRoutes } from './routes/comfyui/queue.ts'
import { settingsRoutes } from './routes/comfyui/settings.ts'
import { systemRoutes } from './routes/comfyui/system.ts'
import { toolingRoutes } from './routes/comfyui/tooling.ts'
import { uploadRoutes } from './routes/comfyui/upload.ts'
import { userdataRoutes } from './routes/comfyui/userdata.ts'
import { userRoutes } from './routes/comfyui/users.ts'
import { viewRoutes } from './routes/comfyui/view.ts'
import { workerOfQuery, workerOfSession } from './routes/comfyui/worker-pin.ts'
import { comfySocketRoutes, comfySocketServerOptions } from './routes/comfyui/ws.ts'
import { answerErrors } from './routes/error-handler.ts'
import { registerApiDocs } from './routes/gateway/docs.ts'
import { taskRoutes } from './routes/gateway/tasks.ts'
import { workerTestRoutes } from './routes/gateway/worker-test.ts'
import { workerRoutes } from './routes/gateway/workers.ts'
import { operationRoutes } from './routes/operations.ts'
import { notFound, pageRoutes } from './routes/pages.ts'
import type { PromptStore, RecordStore, WorkerId } from './store/store.ts'
import type { UserData } from './userdata/user-data.ts'
import type { FleetFeatures } from './workers/fleet-features.ts'
import type { FleetObjectInfo } from './workers/fleet-object-info.ts'
import type { FleetReader } from './workers/fleet-reader.ts'
import type { WorkerRegistry } from './workers/registry.ts'
import type { UiWorker } from './workers/ui-worker.ts'

/** What the routes are made of. */
export interface ServerServices {
  submission: Submission
  dispatcher: Dispatcher
  queue: PromptQueue
  registry: WorkerRegistry
  relay: Relay
  reader: FleetReader
  prompts: PromptStore
  records: RecordStore
  history: PromptHistory
  listing: QueueListing
  objectInfo: FleetObjectInfo
  fleetStats: () => Promise<string>
  fleetFeatures: () => FleetFeatures
  locate: LocateFile
  userData: UserData
  /** The worker that answers for what exists once. */
  uiWorker: UiWorker
  recentLog: RecentLog
  blobs: BlobStore
  uploads: Uploads
  pixels: PixelWork
  /** Pictures that clients have put under ids. */
  heldImages: HeldImages
  /** Where the pictures are that prompts have announced by ids. */
  resultImages: ResultImages
  isLoaded: () => boolean
  isStopping: () => boolean
  /** Monotonic milliseconds. */
  now: () => number
}

/** A client that sends its head more slowly than this is cut. */
const HEADERS_TIMEOUT_MS = 15_000
const VERSION = '0.1.0'
const PAGE_DIR = fileURLToPath(new URL('../frontend/dist', import.meta.url))

export interface ServerOptions {
  config: Config
  log: Logger
  services: ServerServices
}

/** The HTTP side of a gateway: what holds for every request, then every route. Not yet listening. */
export async function createServer(
  options: ServerOptions & { editorPort: () => number | undefined },
): Promise<FastifyInstance> {
  const { config, services, editorPort } = options
  const app = plainServer(options)
  await registerApiDocs(app, { version: VERSION })
  await registerComfyui(app, config, services, {
    pinnedWorker: (request) => workerOfQuery(request, services.registry)?.id,
  })
  await registerOwn(app, config, services)
  await app.register(editorRedirect({ editorPort }))
  await registerPassThrough(app, { ...options, port: 'main' })
  return app
}

/**
 * ComfyUI's editor at the root of a port of its own, with the whole contract: what its extensions do happens on another
 * origin than the gateway's page. Not yet listening.
 */
export async function createEditorServer(options: ServerOptions): Promise<FastifyInstance> {
  const { config, services } = options
  const app = plainServer(options, { pages: ['/'] })
  await registerComfyui(app, config, services, {
    pinnedWorker: (request) =>
      (workerOfQuery(request, services.registry) ?? workerOfSession(request, services.registry))?.id,
  })
  await registerPassThrough(app, { ...options, port: 'editor' })
  return app
}

/** What holds for every request on any port. */
function plainServer({ config, log }: ServerOptions, guard: { pages?: readonly string[] } = {}): FastifyInstance {
  const app = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: config.MAX_BODY_BYTES,
    trustProxy: trustProxyOf(config.TRUSTED_PROXIES),
    forceCloseConnections: true,
    requestIdHeader: false,
    http: { headersTimeout: HEADERS_TIMEOUT_MS },
    routerOptions: { maxParamLength: 2_000 },
  }) as unknown as FastifyInstance // The logger's type is narrower than the default; nothing here depends on it.
  installGuard(
    app,
    createGuard({
      listenHost: config.HOST,
      allowedHosts: config.ALLOWED_HOSTS,
      allowedOrigins: config.ALLOWED_ORIGINS,
      ...guard,
    }),
  )
  // Nobody reads a connection that was to become a websocket and was refused, so its end would not be noticed.
  app.addHook('onResponse', async (request) => {
    if (request.headers.upgrade !== undefined) request.raw.socket.destroy()
  })
  decorateIdentity(app)
  answerErrors(app, { maxBodyBytes: config.MAX_BODY_BYTES })
  app.setNotFoundHandler(notFound)
  // ComfyUI ignores Content-Type, and clients send forms, plain text and nothing at all: routes read bytes.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.options('*', { schema: { hide: true } }, async (_request, reply) => reply.code(200).send())
  return app
}

/** What no route answers; after all others. */
async function registerPassThrough(
  app: FastifyInstance,
  { config, services, port }: ServerOptions & { port: 'main' | 'editor' },
): Promise<void> {
  await app.register(
    passThrough({
      registry: services.registry,
      uiWorker: services.uiWorker,
      port,
      passThrough: config.PASS_THROUGH,
      maxBodyBytes: config.MAX_BODY_BYTES,
      upgradeTimeoutMs: config.WORKER_REQUEST_TIMEOUT * 1_000,
    }),
  )
}

/** ComfyUI's contract: bare and under `/api`, but for what ComfyUI itself has in one place only. */
async function registerComfyui(
  app: FastifyInstance,
  config: Config,
  services: ServerServices,
  { pinnedWorker }: { pinnedWorker: (request: FastifyRequest) => WorkerId | undefined },
): Promise<void> {
  const { submission, dispatcher, queue, registry, relay, prompts, history, userData, uiWorker } = services
  const { blobs, uploads, pixels } = services
  let lastVersion: string | undefined
  const comfyVersion = async (): Promise<string | undefined> => {
    lastVersion = (await uiWorker.current())?.version ?? lastVersion
    return lastVersion
  }
  await app.register(websocket, comfySocketServerOptions)
  await app.register(comfySocketRoutes({ relay, identify: (request) => request.identity }))
  const families = [
    promptRoutes({ submission, dispatcher, queue, store: prompts, relay, pinnedWorker }),
    queueRoutes({ queue, listing: services.listing, registry, dispatcher }),
    interruptRoutes({ queue, dispatcher, registry }),
    historyRoutes({ history, queue }),
    objectInfoRoutes({ objectInfo: services.objectInfo }),
    modelRoutes({ reader: services.reader }),
    systemRoutes({ fleetStats: services.fleetStats, fleetFeatures: services.fleetFeatures }),
    userRoutes({ userData, records: services.records, comfyVersion }),
    settingsRoutes({ userData }),
    userdataRoutes({ userData, comfyVersion }),
    viewRoutes({ locate: services.locate, registry, kept: { blobs, pixels } }),
    uploadRoutes({ blobs, uploads, pixels, maxBodyBytes: config.MAX_BODY_BYTES }),
  ]
  for (const family of families) {
    await app.register(family, { prefix: '' })
    await app.register(family, { prefix: '/api' })
  }
  await app.register(jobRoutes({ store: prompts, queue, history, dispatcher }))
  await app.register(assetRoutes())
  await app.register(
    toolingRoutes({
      images: services.heldImages,
      results: services.resultImages,
      blobs,
      registry,
      uiWorker,
      maxBodyBytes: config.MAX_BODY_BYTES,
    }),
  )
  await app.register(internalRoutes({ recentLog: services.recentLog, uiWorker, store: prompts, uploads }))
}

/** The gateway's own: its API, its page, and what operates it. */
async function registerOwn(app: FastifyInstance, config: Config, services: ServerServices): Promise<void> {
  const { registry, queue, prompts, now } = services
  const clocks = { connectTimeoutMs: config.CONNECT_TIMEOUT_MS, timeoutMs: config.WORKER_REQUEST_TIMEOUT * 1_000 }
  await app.register(workerRoutes({ registry, queue, now, clocks }))
  await app.register(workerTestRoutes({ registry }))
  await app.register(taskRoutes({ queue, store: prompts, registry }))
  await app.register(
    operationRoutes({
      store: { records: services.records },
      isLoaded: services.isLoaded,
      isStopping: services.isStopping,
      storeTimeoutMs: config.STORE_TIMEOUT_MS,
    }),
  )
  await app.register(pageRoutes({ distDir: PAGE_DIR }))
}
