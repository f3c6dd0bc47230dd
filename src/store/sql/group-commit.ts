import type { Kysely, Transaction } from 'kysely'
import { HttpError, StoreUnavailableError } from '../../errors.ts'
import type { Runner, Verb } from './runner.ts'
import type { Schema } from './schema.ts'
import type { SqliteFile } from './sqlite-file.ts'

/** A batch takes no further verb after this time, so that a flood of them does not stop the event loop. */
const maxBatchMs = 10

interface Job {
  /** Runs the verb; answers what to do with its promise once the batch is durable. */
  attempt(trx: Transaction<Schema>): Promise<() => void>
  reject(error: unknown): void
}

/**
 * Runs all verbs that are called in one turn of the event loop in one transaction, so that they share one wait for the
 * disk. Each has a savepoint, so that one that fails undoes itself alone. Promises settle after COMMIT; when that
 * fails, all of the batch reject with StoreUnavailableError. Verbs run in the order of their calls.
 */
export class GroupCommit implements Runner {
  readonly #database: Kysely<Schema>
  readonly #file: SqliteFile
  readonly #waiting: Job[] = []
  #isScheduled = false
  #onIdle: (() => void) | undefined
  #closed: Promise<void> | undefined

  constructor({ database, file }: { database: Kysely<Schema>; file: SqliteFile }) {
    this.#database = database
    this.#file = file
  }

  read<T>(verb: Verb<T>): Promise<T> {
    return this.run(verb)
  }

  runInOrder<T>(verb: (trx: Transaction<Schema>, passOn: () => void) => Promise<T>): Promise<T> {
    return this.run((trx) => verb(trx, () => {}))
  }

  run<T>(verb: Verb<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed !== undefined) {
        reject(new StoreUnavailableError(new Error('The store is closed')))
        return
      }
      const attempt = async (trx: Transaction<Schema>) => {
        const value = await verb(trx)
        return () => resolve(value)
      }
      this.#waiting.push({ attempt, reject })
      this.#schedule()
    })
  }

  /** Refuses new verbs, waits for those under way and closes the file. */
  close(): Promise<void> {
    this.#closed ??= this.#finishAndClose()
    return this.#closed
  }

  async #finishAndClose(): Promise<void> {
    if (this.#isScheduled) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve
      })
    }
    await this.#database.destroy()
    // Not left to Kysely, which has nothing to close when it was never used.
    this.#file.close()
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => void this.#flush())
  }

  /** Never rejects: every failure goes to the promises of the batch. */
  async #flush(): Promise<void> {
    let started: Job[] = []
    const settlements: (() => void)[] = []
    try {
      await this.#database.transaction().execute(async (trx) => {
        const until = performance.now() + maxBatchMs
        for (const job of this.#waiting) {
          started.push(job)
          settlements.push(await this.#attempt(trx, job))
          if (performance.now() >= until) break
        }
      })
      for (const settle of settlements) settle()
    } catch (error) {
      // When not even BEGIN worked, nothing that waits would fare better at once.
      if (started.length === 0) started = this.#waiting.slice()
      for (const job of started) job.reject(new StoreUnavailableError(error))
    }
    this.#waiting.splice(0, started.length)
    this.#isScheduled = false
    if (this.#waiting.length > 0) this.#schedule()
    else this.#onIdle?.()
  }

  async #attempt(trx: Transaction<Schema>, job: Job): Promise<() => void> {
    this.#file.exec('SAVEPOINT verb')
    try {
      const settle = await job.attempt(trx)
      this.#file.exec('RELEASE verb')
      return settle
    } catch (error) {
      // Some failures roll the whole transaction back; then the batch is lost.
      if (!this.#file.inTransaction) throw error
      this.#file.exec('ROLLBACK TO verb')
      this.#file.exec('RELEASE verb')
      return () => job.reject(error instanceof HttpError ? error : new StoreUnavailableError(error))
    }
  }
}
