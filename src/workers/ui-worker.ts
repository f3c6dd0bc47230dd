import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { RecordStore } from '../store/store.ts'
import type { WorkerRegistry } from './registry.ts'
import type { Worker } from './worker.ts'

export interface UiWorkerOptions {
  registry: Pick<WorkerRegistry, 'get' | 'list'>
  records: Pick<RecordStore, 'get' | 'put'>
  log: Pick<Logger, 'info' | 'warn' | 'debug'>
  /** Monotonic milliseconds. */
  now: () => number
}

/** The worker whose front end is shown, and what that front end is. */
interface Recorded {
  workerId: string
  edition: string
}

const COLLECTION = 'ui-worker'
const ID = 'ui'
/** How long what a worker's front end is may be taken from memory; ms. */
const EDITION_AGE_MS = 30_000
/** How long nobody is looked for again after nobody was found; ms. */
const RETRY_MS = 1_000
const ASK_TIMEOUT_MS = 3_000

/**
 * The one worker that serves what must come from one version: the editor's files, its extensions, their texts. The first
 * healthy one is chosen and recorded. While it is away another takes its place only when it has the same front end and
 * the same extensions, since pages that are open load the rest of theirs from here.
 */
export class UiWorker {
  readonly #options: UiWorkerOptions
  readonly #editions = new WeakMap<Worker, { edition: string; readAt: number }>()
  #recorded: Recorded | undefined
  #isLoaded = false
  #wasAway = false
  #checkedAt = Number.NEGATIVE_INFINITY
  #emptyUntil = Number.NEGATIVE_INFINITY
  #search: Promise<Worker | undefined> | undefined

  constructor(options: UiWorkerOptions) {
    this.#options = options
  }

  /** Undefined while it is away and none is like it. Throws when the store fails. */
  async current(): Promise<Worker | undefined> {
    const { registry, now } = this.#options
    const worker = this.#recorded && registry.get(this.#recorded.workerId)
    if (worker && isHealthy(worker)) {
      if (this.#wasAway || now() - this.#checkedAt > EDITION_AGE_MS) this.#renewEdition(worker)
      return worker
    }
    if (this.#isLoaded) this.#wasAway = true
    if (now() < this.#emptyUntil) return undefined
    this.#search ??= this.#find().finally(() => {
      this.#search = undefined
    })
    return this.#search
  }

  async #find(): Promise<Worker | undefined> {
    const { registry, records, now, log } = this.#options
    if (!this.#isLoaded) {
      this.#recorded = readRecord((await records.get(COLLECTION, ID))?.value)
      this.#isLoaded = true
    }
    const known = this.#recorded && registry.get(this.#recorded.workerId)
    if (known && isHealthy(known)) return known
    // One that was removed does not come back: its place is free.
    const wanted = known && this.#recorded?.edition
    const healthy = registry.list().filter(isHealthy)
    const inUse = healthy.filter(({ config }) => config.enabled && !config.draining)
    for (const worker of [...inUse, ...healthy.filter((each) => !inUse.includes(each))]) {
      const edition = await this.#editionOf(worker)
      if (edition === undefined || (wanted !== undefined && edition !== wanted)) continue
      await this.#record({ workerId: worker.id, edition })
      log.info({ workerId: worker.id, worker: worker.config.name }, "the editor's files come from this worker")
      return worker
    }
    this.#emptyUntil = now() + RETRY_MS
    return undefined
  }

  async #record(recorded: Recorded): Promise<void> {
    await this.#options.records.put(COLLECTION, { id: ID, value: { ...recorded } })
    this.#recorded = recorded
    this.#checkedAt = this.#options.now()
    this.#wasAway = false
  }

  /** It may have been updated: what counts from then on is what it is now. */
  #renewEdition(worker: Worker): void {
    this.#wasAway = false
    this.#checkedAt = this.#options.now()
    this.#editions.delete(worker)
    this.#editionOf(worker)
      .then(async (edition) => {
        const recorded = this.#recorded
        if (edition === undefined || recorded?.workerId !== worker.id || recorded.edition === edition) return
        this.#options.log.info({ workerId: worker.id }, "the worker of the editor's files has another front end now")
        await this.#record({ workerId: worker.id, edition })
      })
      .catch((error: unknown) => this.#options.log.warn({ err: error }, "the editor's worker could not be recorded"))
  }

  /** What must be alike for one worker to stand in for another; undefined when it does not say. */
  async #editionOf(worker: Worker): Promise<string | undefined> {
    const known = this.#editions.get(worker)
    if (known && this.#options.now() - known.readAt < EDITION_AGE_MS) return known.edition
    try {
      const ask = { timeoutMs: ASK_TIMEOUT_MS }
      const [stats, extensions] = await Promise.all([
        worker.client.getJsonText('/system_stats', ask),
        worker.client.getJsonText('/extensions', ask),
      ])
      const edition = editionFrom(stats, extensions)
      this.#editions.set(worker, { edition, readAt: this.#options.now() })
      return edition
    } catch (error) {
      this.#options.log.debug({ workerId: worker.id, err: error }, 'what front end a worker has could not be read')
      return undefined
    }
  }
}

const isHealthy = (worker: Worker): boolean => worker.state.kind === 'healthy'

function editionFrom(stats: string | undefined, extensions: string | undefined): string {
  const system = member(parse(stats), 'system')
  const list = parse(extensions)
  const names = Array.isArray(list) ? list.map(String).sort() : []
  return createHash('sha256')
    .update(JSON.stringify([member(system, 'required_frontend_version'), member(system, 'comfyui_version'), names]))
    .digest('hex')
}

function parse(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}

const member = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined

function readRecord(value: unknown): Recorded | undefined {
  const workerId = member(value, 'workerId')
  const edition = member(value, 'edition')
  return typeof workerId === 'string' && typeof edition === 'string' ? { workerId, edition } : undefined
}
