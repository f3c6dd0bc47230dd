import type { Logger } from 'pino'
import { WorkerCallError } from '../comfyui/client.ts'
import type { Endpoint } from '../comfyui/endpoint.ts'
import { parseWorkerMessage, type RemoteQueue, type WorkerMessage } from '../comfyui/protocol.ts'
import type { WorkerCatalogue } from './catalogue.ts'
import { WorkerConnection } from './connection.ts'
import { type HealthSettings, WorkerHealth, type WorkerState } from './health.ts'
import type { Worker } from './worker.ts'

/** What a worker says and what becomes of it, for the queue. Called in the order it was observed. */
export interface WorkerObserver {
  message(worker: Worker, message: WorkerMessage, text: string): void
  frame(worker: Worker, bytes: Buffer): void
  /** Its queue, asked for after `askedAt` (monotonic ms). */
  queueSeen(worker: Worker, queue: RemoteQueue, askedAt: number): void
  /** It is given up: nothing that ran there counts any more. */
  lost(worker: Worker, reason: string): void
  /** It may have become available, or able to run more than before. */
  changed(worker: Worker): void
}

export interface SupervisorOptions {
  worker: Worker
  endpoint: Endpoint
  observer: WorkerObserver
  catalogue: WorkerCatalogue
  health: HealthSettings
  /** Milliseconds between checks while nothing is wrong. */
  checkIntervalMs: number
  /** Deadline of one check. */
  checkTimeoutMs: number
  /** Milliseconds between looks at its queue while it holds prompts of ours. */
  reconcileIntervalMs: number
  connectTimeoutMs: number
  pingIntervalMs: number
  /** The client id to connect with; persisted before it is used. */
  clientId(worker: Worker): Promise<string>
  log: Logger
  now: () => number
}

/** While something is wrong the worker is looked at this often, or as often as the check interval when that is shorter. */
const ALERT_INTERVAL_MS = 500
/** A running prompt without a message for this long makes us doubt the socket; doubles with each doubt. */
const DEAF_AFTER_MS = 15_000
const DEAF_MAX_MS = 120_000

/** Watches one worker: checks, socket, queue, catalogue; keeps `worker.state` and tells the observer. */
export class WorkerSupervisor {
  readonly #options: SupervisorOptions
  readonly #worker: Worker
  readonly #health: WorkerHealth
  readonly #connection: WorkerConnection
  readonly #stop = new AbortController()
  #wakeUp: (() => void) | undefined
  #wakeRequested = false
  #loop: Promise<void> = Promise.resolve()
  #reconciledAt = Number.NEGATIVE_INFINITY
  #reconcileRequested = false
  #messageAt: number
  #deafAfterMs = DEAF_AFTER_MS
  #needsCatalogue = true
  #isFetching = false
  #isReopening = false

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#worker = options.worker
    const now = options.now()
    this.#messageAt = now
    this.#health = new WorkerHealth(options.health, now)
    this.#worker.state = this.#health.state
    this.#connection = new WorkerConnection(
      {
        endpoint: options.endpoint,
        connectTimeoutMs: options.connectTimeoutMs,
        pingIntervalMs: options.pingIntervalMs,
        clientId: () => options.clientId(options.worker),
      },
      {
        opened: () => {
          this.#worker.wasConnected = true
          this.#health.socketOpened(this.#now())
          // Whatever was said while nobody listened is lost: look.
          this.#reconcileRequested = true
          this.#settle()
          this.wake()
        },
        closed: (reason) => {
          this.#health.socketClosed(this.#now(), reason)
          this.#reconcileRequested = true
          // It may have been restarted with other nodes or models.
          if (!this.#isReopening) this.#needsCatalogue = true
          this.#isReopening = false
          this.#settle()
          this.wake()
        },
        text: (text) => this.#text(text),
        binary: (bytes) => {
          this.#messageAt = this.#now()
          options.observer.frame(this.#worker, bytes)
        },
        sign: () => {
          this.#health.sign(this.#now())
          this.#settle()
        },
      },
    )
  }

  start(): void {
    void this.#connection.connect()
    this.#loop = this.#run()
  }

  /** Stops watching; the worker keeps what it runs. */
  async close(): Promise<void> {
    this.#stop.abort()
    this.wake()
    await Promise.all([this.#connection.close(), this.#loop])
  }

  /** Checks now instead of at the next turn of the clock. */
  wake(): void {
    this.#wakeRequested = true
    this.#wakeUp?.()
  }

  /** Looks at the worker's queue as soon as possible and tells the observer. */
  lookAtQueue(): void {
    this.#reconcileRequested = true
    this.wake()
  }

  /** A real call to it failed. */
  callFailed(error: WorkerCallError): void {
    this.#health.callFailed(this.#now(), error.fault, error.message, error.status)
    this.#settle()
    this.wake()
  }

  /** A real call to it was answered as it should be. */
  callSucceeded(): void {
    this.#health.callSucceeded(this.#now())
    this.#settle()
  }

  /** Fetches what it can run again; resolves when that is done or has failed. */
  async refreshCatalogue(): Promise<void> {
    this.#needsCatalogue = true
    await this.#fetchCatalogue()
  }

  /** One check right now, for an operator who asks; the answer is its outcome. */
  async checkNow(): Promise<{ healthy: boolean; reason: string | undefined }> {
    try {
      await this.#probe()
      return { healthy: true, reason: undefined }
    } catch (error) {
      return { healthy: false, reason: error instanceof Error ? error.message : String(error) }
    }
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#wakeRequested = false
      await this.#turn()
      if (this.#stop.signal.aborted) return
      const calm = this.#worker.state.kind === 'healthy'
      await this.#pause(
        calm ? this.#options.checkIntervalMs : Math.min(ALERT_INTERVAL_MS, this.#options.checkIntervalMs),
      )
    }
  }

  async #turn(): Promise<void> {
    try {
      await this.#probe()
    } catch {
      return // Health has noted it.
    }
    if (!this.#connection.isOpen) this.#connection.hurry()
    // Not awaited: it may take a minute, in which the worker may die.
    if (this.#needsCatalogue && !this.#isFetching) void this.#fetchCatalogue()
    const due = this.#now() - this.#reconciledAt >= this.#options.reconcileIntervalMs
    if (this.#reconcileRequested || due) await this.#reconcile()
    this.#listenForDeafness()
  }

  async #probe(): Promise<void> {
    const startedAt = this.#now()
    try {
      await this.#worker.client.probe({ timeoutMs: this.#options.checkTimeoutMs, signal: this.#stop.signal })
      this.#worker.latencyMs = Math.round(this.#now() - startedAt)
      this.#health.checked(this.#now())
    } catch (error) {
      const fault = error instanceof WorkerCallError ? error : new WorkerCallError('reset', String(error))
      if (!this.#stop.signal.aborted) this.#health.missed(this.#now(), fault.fault, fault.message, fault.status)
      throw error
    } finally {
      if (!this.#stop.signal.aborted) this.#settle()
    }
  }

  async #reconcile(): Promise<void> {
    this.#reconcileRequested = false
    const askedAt = this.#now()
    try {
      const queue = await this.#worker.client.queue({ signal: this.#stop.signal })
      this.#reconciledAt = this.#now()
      this.#options.observer.queueSeen(this.#worker, queue, askedAt)
    } catch (error) {
      this.#reconcileRequested = true
      if (error instanceof WorkerCallError && !this.#stop.signal.aborted) {
        this.#health.missed(this.#now(), error.fault, error.message, error.status)
        this.#settle()
      }
    }
  }

  /** Does not throw. */
  async #fetchCatalogue(): Promise<void> {
    this.#isFetching = true
    try {
      await this.#options.catalogue.fetch(this.#worker, { signal: this.#stop.signal })
      this.#needsCatalogue = false
      this.#options.observer.changed(this.#worker)
    } catch (error) {
      if (this.#stop.signal.aborted) return
      this.#options.log.warn({ workerId: this.#worker.id, err: error }, 'what a worker can run could not be read')
    } finally {
      this.#isFetching = false
    }
  }

  /** An open socket that delivers nothing for a running prompt may have been forgotten by the worker. */
  #listenForDeafness(): void {
    let running = false
    for (const prompt of this.#worker.inFlight.values()) if (prompt.phase === 'running') running = true
    if (!running || !this.#connection.isOpen) return
    if (this.#now() - this.#messageAt < this.#deafAfterMs) return
    this.#options.log.info({ workerId: this.#worker.id }, 'no message for a running prompt: connecting anew')
    this.hearAgain()
  }

  /** Closes and opens the socket, because a message that must have been sent did not come. */
  hearAgain(): void {
    this.#messageAt = this.#now()
    this.#deafAfterMs = Math.min(this.#deafAfterMs * 2, DEAF_MAX_MS)
    this.#isReopening = true
    void this.#connection.reopen()
  }

  #text(text: string): void {
    this.#messageAt = this.#now()
    const message = parseWorkerMessage(text)
    if (!message) {
      this.#options.log.debug({ workerId: this.#worker.id, length: text.length }, 'a text frame is not a message')
      return
    }
    if (message.type !== 'status') this.#deafAfterMs = DEAF_AFTER_MS
    this.#options.observer.message(this.#worker, message, text)
  }

  /** Publishes a change of state, once and with its reason. */
  #settle(): void {
    const before = this.#worker.state
    const after = this.#health.state
    if (before === after) return
    this.#worker.state = after
    const { observer, log } = this.#options
    const fields = { workerId: this.#worker.id, worker: this.#worker.config.name, from: before.kind, to: after.kind }
    if (after.kind === 'healthy') log.info(fields, 'worker is healthy')
    else log.warn({ ...fields, reason: reasonOf(after) }, 'worker is not healthy')
    if (after.kind === 'down') {
      // It may come back as another version with other nodes.
      this.#needsCatalogue = true
      observer.lost(this.#worker, reasonOf(after) ?? 'down')
    }
    if (after.kind === 'suspect') this.wake()
    observer.changed(this.#worker)
  }

  #pause(ms: number): Promise<void> {
    if (this.#wakeRequested) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms)
      this.#wakeUp = done
      const self = this
      function done(): void {
        clearTimeout(timer)
        self.#wakeUp = undefined
        resolve()
      }
    })
  }

  #now(): number {
    return this.#options.now()
  }
}

function reasonOf(state: WorkerState): string | undefined {
  return 'reason' in state ? state.reason : undefined
}
