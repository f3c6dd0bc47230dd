import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { type ComfyClient, createComfyClient } from '../comfyui/client.ts'
import { createEndpoint, type Endpoint } from '../comfyui/endpoint.ts'
import { parseWorkerUrl, type WorkerSeed } from '../config/worker-seed.ts'
import { HttpError } from '../errors.ts'
import type { WorkerId } from '../store/store.ts'
import type { WorkerCatalogue } from './catalogue.ts'
import type { HealthSettings } from './health.ts'
import { type WorkerObserver, WorkerSupervisor } from './supervisor.ts'
import { Worker, type WorkerConfig } from './worker.ts'
import { configOf, diskOf, nextDiskToken, tokenBase, type WorkerRecords } from './worker-records.ts'

export interface RegistrySettings {
  /** Auth of workers that have none of their own. */
  defaultAuth: { username: string; password: string } | undefined
  /**
   * Whether it is also sent to workers that were added through the API. Not where strangers reach the API without a key:
   * the password would go to any address that one of them names.
   */
  sharesDefaultAuth: boolean
  health: HealthSettings
  checkIntervalMs: number
  checkTimeoutMs: number
  reconcileIntervalMs: number
  connectTimeoutMs: number
  requestTimeoutMs: number
  pingIntervalMs: number
  prefetch: number
}

/** What may be said of a worker when it is added; all but the URL has a default. */
export type NewWorker = Partial<Omit<WorkerSeed, 'url'>> & { url: string }

/** What can be changed of a worker. */
export type WorkerPatch = Partial<
  Pick<
    WorkerConfig,
    'name' | 'weight' | 'slots' | 'tags' | 'enabled' | 'draining' | 'headers' | 'ca' | 'auth' | 'metadata'
  >
>

export class UnknownWorkerError extends HttpError {
  constructor(id: string) {
    super(404, 'worker_not_found', `There is no worker ${id}`)
  }
}

export class WorkerExistsError extends HttpError {
  constructor(url: string) {
    super(409, 'worker_exists', `${url} is a worker already`)
  }
}

class WorkerUrlError extends HttpError {
  constructor(problem: string) {
    super(422, 'invalid_worker_url', `The worker's URL ${problem}`)
  }
}

interface Watched {
  worker: Worker
  supervisor: WorkerSupervisor
}

/** Who exists: the workers, each watched from when it is added until it is removed. */
export class WorkerRegistry {
  readonly #records: WorkerRecords
  readonly #catalogue: WorkerCatalogue
  readonly #settings: RegistrySettings
  readonly #log: Logger
  readonly #now: () => number
  readonly #watched = new Map<WorkerId, Watched>()
  /** On the way into the store, so that of two at the same moment one is added. */
  readonly #adding = new Set<WorkerId>()
  /** The last change of each worker's record that is under way. */
  readonly #changes = new Map<WorkerId, Promise<void>>()
  readonly #byTokenBase = new Map<string, Worker>()
  #observer: WorkerObserver | undefined
  #list: readonly Worker[] = []

  constructor(options: {
    records: WorkerRecords
    catalogue: WorkerCatalogue
    settings: RegistrySettings
    log: Logger
    now: () => number
  }) {
    this.#records = options.records
    this.#catalogue = options.catalogue
    this.#settings = options.settings
    this.#log = options.log
    this.#now = options.now
  }

  /** Reads the workers from the store, adding seeds never seen, without watching any yet. */
  async load(seeds: readonly WorkerSeed[]): Promise<void> {
    for (const config of await this.#records.load(seeds)) this.#include(config)
  }

  /** Starts watching; `observer` hears of all workers from now on. */
  start(observer: WorkerObserver): void {
    this.#observer = observer
    for (const { supervisor } of this.#watched.values()) supervisor.start()
  }

  /** In order of their ids; the same array until a worker comes or goes. */
  list(): readonly Worker[] {
    return this.#list
  }

  get(id: WorkerId): Worker | undefined {
    return this.#watched.get(id)?.worker
  }

  /** The worker that a token of its disk, or of one it had before, stands for. */
  byToken(token: string): { worker: Worker; isCurrent: boolean } | undefined {
    const worker = this.#byTokenBase.get(tokenBase(token))
    if (!worker || diskOf(token) > diskOf(worker.config.token)) return undefined
    return { worker, isCurrent: token === worker.config.token }
  }

  supervisor(id: WorkerId): WorkerSupervisor | undefined {
    return this.#watched.get(id)?.supervisor
  }

  /** Adds and watches a worker. Throws WorkerExistsError, WorkerUrlError. */
  async add(input: NewWorker): Promise<Worker> {
    const address = parseWorkerUrl(input.url)
    if ('problem' in address) throw new WorkerUrlError(address.problem)
    const seed = { weight: 1, slots: 1, tags: [], headers: {}, metadata: {}, ...input, ...address }
    const config = configOf(seed, { isConfigured: false })
    if (this.#watched.has(config.id) || this.#adding.has(config.id)) throw new WorkerExistsError(config.url)
    this.#adding.add(config.id)
    try {
      await this.#records.save(config)
      const { worker, supervisor } = this.#include(config)
      supervisor.start()
      return worker
    } finally {
      this.#adding.delete(config.id)
    }
  }

  /** Changes a worker. A change of how it is reached connects anew; what runs there goes on. */
  update(id: WorkerId, patch: WorkerPatch): Promise<Worker> {
    return this.#inTurn(id, () => this.#update(this.#mustGet(id), patch))
  }

  async #update(watched: Watched, patch: WorkerPatch): Promise<Worker> {
    const { worker } = watched
    const before = worker.config
    const config = { ...before, ...patch }
    await this.#records.save(config)
    const isReachedAlike =
      config.ca === before.ca &&
      JSON.stringify([config.auth, config.headers]) === JSON.stringify([before.auth, before.headers])
    if (isReachedAlike) {
      worker.config = config
      this.#observer?.changed(worker)
      return worker
    }
    await watched.supervisor.close()
    await worker.client.close()
    worker.config = config
    worker.client = this.#clientOf(config)
    const supervisor = this.#supervisorOf(worker)
    this.#watched.set(worker.id, { worker, supervisor })
    supervisor.start()
    return worker
  }

  /** Removes a worker; what ran there is given up. */
  remove(id: WorkerId): Promise<void> {
    return this.#inTurn(id, async () => {
      const watched = this.#mustGet(id)
      await this.#records.remove(watched.worker.config)
      await this.#exclude(watched, 'it was removed')
    })
  }

  /** Notes that the worker's disk is another one: names it gives from now on get a new token. Of two at once one counts. */
  renewDisk(worker: Worker): Promise<void> {
    const { token } = worker.config
    return this.#inTurn(worker.id, async () => {
      if (worker.config.token !== token || this.get(worker.id) !== worker) return
      const config = { ...worker.config, token: nextDiskToken(token) }
      await this.#records.save(config)
      worker.config = config
      this.#log.warn(
        { workerId: worker.id },
        'a file name came again with other content: its disk is taken for a new one',
      )
    })
  }

  async close(): Promise<void> {
    await Promise.all(
      [...this.#watched.values()].map(async ({ worker, supervisor }) => {
        await supervisor.close()
        await worker.client.close()
      }),
    )
  }

  /** How a worker with this configuration is reached. */
  endpointOf(config: Pick<WorkerConfig, 'url' | 'auth' | 'headers' | 'ca' | 'isConfigured'>): Endpoint {
    const { defaultAuth, sharesDefaultAuth } = this.#settings
    return createEndpoint(config.url, {
      auth: config.auth ?? (config.isConfigured || sharesDefaultAuth ? defaultAuth : undefined),
      headers: config.headers,
      ca: config.ca,
    })
  }

  #include(config: WorkerConfig): Watched {
    const worker = new Worker(config, this.#clientOf(config), { prefetch: this.#settings.prefetch })
    const watched = { worker, supervisor: this.#supervisorOf(worker) }
    this.#watched.set(config.id, watched)
    this.#relist()
    return watched
  }

  #clientOf(config: WorkerConfig): ComfyClient {
    const { connectTimeoutMs, requestTimeoutMs } = this.#settings
    return createComfyClient({ endpoint: this.endpointOf(config), connectTimeoutMs, requestTimeoutMs })
  }

  #supervisorOf(worker: Worker): WorkerSupervisor {
    const settings = this.#settings
    const forward: WorkerObserver = {
      message: (...event) => this.#observer?.message(...event),
      frame: (...event) => this.#observer?.frame(...event),
      queueSeen: (...event) => this.#observer?.queueSeen(...event),
      lost: (...event) => this.#observer?.lost(...event),
      changed: (...event) => this.#observer?.changed(...event),
    }
    return new WorkerSupervisor({
      worker,
      endpoint: this.endpointOf(worker.config),
      observer: forward,
      catalogue: this.#catalogue,
      health: settings.health,
      checkIntervalMs: settings.checkIntervalMs,
      checkTimeoutMs: settings.checkTimeoutMs,
      reconcileIntervalMs: settings.reconcileIntervalMs,
      connectTimeoutMs: settings.connectTimeoutMs,
      pingIntervalMs: settings.pingIntervalMs,
      clientId: (which) => this.#clientIdFor(which),
      log: this.#log,
      now: this.#now,
    })
  }

  async #exclude({ worker, supervisor }: Watched, reason: string): Promise<void> {
    this.#watched.delete(worker.id)
    this.#relist()
    await supervisor.close()
    this.#observer?.lost(worker, reason)
    this.#catalogue.forget(worker)
    await worker.client.close()
  }

  /** Messages go to the id a prompt was posted under, so it is kept while one is unfinished; else a fresh one is safer. */
  #clientIdFor(worker: Worker): Promise<string> {
    return this.#inTurn(worker.id, async () => {
      if (this.get(worker.id) !== worker) throw new UnknownWorkerError(worker.id)
      if (worker.inFlight.size === 0 && worker.wasConnected) {
        const config = { ...worker.config, upstreamClientId: randomUUID() }
        await this.#records.save(config)
        worker.config = config
        worker.wasConnected = false
      }
      return worker.config.upstreamClientId
    })
  }

  /** A worker's record is written whole, so each change starts from what the one before has left. */
  #inTurn<T>(id: WorkerId, change: () => Promise<T>): Promise<T> {
    const turn = (this.#changes.get(id) ?? Promise.resolve()).then(change)
    const settled = turn.then(
      () => undefined,
      () => undefined,
    )
    this.#changes.set(id, settled)
    void settled.then(() => {
      if (this.#changes.get(id) === settled) this.#changes.delete(id)
    })
    return turn
  }

  #mustGet(id: WorkerId): Watched {
    const watched = this.#watched.get(id)
    if (!watched) throw new UnknownWorkerError(id)
    return watched
  }

  #relist(): void {
    this.#list = [...this.#watched.values()].map(({ worker }) => worker).sort((a, b) => (a.id < b.id ? -1 : 1))
    this.#byTokenBase.clear()
    for (const worker of this.#list) this.#byTokenBase.set(tokenBase(worker.config.token), worker)
  }
}
