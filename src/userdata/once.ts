import type { Logger } from 'pino'
import type { JsonValue, RecordStore } from '../store/store.ts'

export interface OnceOptions {
  records: Pick<RecordStore, 'get' | 'put'>
  /** Where it is noted that the work was done. */
  record: { collection: string; id: string }
  /** Does it and says what is worth noting; undefined when it cannot be tried now. Rejects when it failed. */
  work: () => Promise<JsonValue | undefined>
  /** Milliseconds after a failure in which it is not tried again. */
  retryMs: number
  /** Monotonic milliseconds. */
  now: () => number
  log: Pick<Logger, 'warn'>
}

/** Work that is to succeed once in the life of a store: asked for again and again, done by one at a time. */
export class Once {
  readonly #options: OnceOptions
  #running: Promise<void> | undefined
  #failedAt: number | undefined
  #isDone = false

  constructor(options: OnceOptions) {
    this.#options = options
  }

  get isDone(): boolean {
    return this.#isDone
  }

  /** Resolves when the work is done, cannot be done now, or `waitMs` are over; then it goes on by itself. Never rejects. */
  async attempt(waitMs: number): Promise<void> {
    if (this.#isDone) return
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
    let timer: NodeJS.Timeout | undefined
    const timeIsUp = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, waitMs)
    })
    await Promise.race([this.#running, timeIsUp])
    clearTimeout(timer)
  }

  async #run(): Promise<void> {
    const { records, record, work, retryMs, now, log } = this.#options
    if (this.#failedAt !== undefined && now() - this.#failedAt < retryMs) return
    try {
      if (!(await records.get(record.collection, record.id))) {
        const value = await work()
        if (value === undefined) return
        await records.put(record.collection, { id: record.id, value })
      }
      this.#isDone = true
    } catch (error) {
      this.#failedAt = now()
      log.warn({ err: error, what: `${record.collection}/${record.id}` }, 'an import failed and is tried again later')
    }
  }
}
