import type { Kysely, Transaction } from 'kysely'
import { HttpError, NameTooLongError, StoreUnavailableError } from '../../errors.ts'
import { MysqlTimeoutError } from './mysql-pool.ts'
import type { Runner, Verb } from './runner.ts'
import type { Schema } from './schema.ts'

/** Races are won within a few tries; more would hide a mistake. */
const maxTries = 12
const maxPauseMs = 50

interface Waiter {
  start(): void
  timer: NodeJS.Timeout
}

/**
 * Runs each verb in one short transaction on a connection of its own, as many at once as there are connections. A verb
 * that loses a race (deadlock, lock wait, the same new key) or its connection before COMMIT is run again. When the
 * connection goes during COMMIT, nobody knows whether it was written: the verb rejects.
 *
 * Who waits for a connection waits as long as the server answers others, and `timeoutMs` after its last sign of life.
 */
export class MysqlRunner implements Runner {
  readonly #database: Kysely<Schema>
  readonly #timeoutMs: number
  readonly #waiting: Waiter[] = []
  #free: number
  #lastAnswer = performance.now()
  #underWay = 0
  #turn: Promise<void> = Promise.resolve()
  #onIdle: (() => void) | undefined
  #closed: Promise<void> | undefined

  constructor({
    database,
    connections,
    timeoutMs,
  }: {
    database: Kysely<Schema>
    connections: number
    timeoutMs: number
  }) {
    this.#database = database
    this.#free = connections
    this.#timeoutMs = timeoutMs
  }

  /** Notes that the server has answered something. */
  answered(): void {
    this.#lastAnswer = performance.now()
  }

  run<T>(verb: Verb<T>): Promise<T> {
    return this.#accept(() => this.#withConnection(() => this.#tryUntilDone(verb, {})))
  }

  read<T>(verb: Verb<T>): Promise<T> {
    return this.#accept(() => this.#withConnection(() => this.#tryUntilDone(verb, { sees: 'one state' })))
  }

  runInOrder<T>(verb: (trx: Transaction<Schema>, passOn: () => void) => Promise<T>): Promise<T> {
    return this.#accept(async () => {
      const before = this.#turn
      let passOn = () => {}
      this.#turn = new Promise((resolve) => {
        passOn = resolve
      })
      await before
      try {
        return await this.#withConnection(() => this.#tryUntilDone((trx) => verb(trx, passOn), {}))
      } finally {
        passOn()
      }
    })
  }

  /** Refuses new verbs, waits for those under way and closes the connections. */
  close(): Promise<void> {
    this.#closed ??= this.#finishAndClose()
    return this.#closed
  }

  async #finishAndClose(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve
      })
    }
    await this.#database.destroy()
  }

  async #accept<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed !== undefined) throw new StoreUnavailableError(new Error('The store is closed'))
    this.#underWay += 1
    try {
      return await work()
    } catch (error) {
      throw asStoreError(error)
    } finally {
      this.#underWay -= 1
      if (this.#underWay === 0) this.#onIdle?.()
    }
  }

  async #withConnection<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1
    else await new Promise<void>((resolve, reject) => this.#enqueue(resolve, reject))
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free += 1
      else next.start()
    }
  }

  #enqueue(resolve: () => void, reject: (error: unknown) => void): void {
    const onTime = () => {
      const silentMs = performance.now() - this.#lastAnswer
      if (silentMs < this.#timeoutMs) {
        waiter.timer = setTimeout(onTime, this.#timeoutMs - silentMs)
        return
      }
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1)
      reject(new MysqlTimeoutError(this.#timeoutMs))
    }
    const waiter: Waiter = {
      start: () => {
        clearTimeout(waiter.timer)
        resolve()
      },
      timer: setTimeout(onTime, this.#timeoutMs),
    }
    this.#waiting.push(waiter)
  }

  async #tryUntilDone<T>(verb: Verb<T>, { sees }: { sees?: 'one state' }): Promise<T> {
    const transaction = this.#database.transaction()
    const settled = sees === 'one state' ? transaction.setIsolationLevel('repeatable read') : transaction
    for (let tries = 1; ; tries += 1) {
      let isCommitting = false
      try {
        return await settled.execute(async (trx) => {
          const value = await verb(trx)
          isCommitting = true
          return value
        })
      } catch (error) {
        if (tries >= maxTries || !(isLostRace(error) || (!isCommitting && isLostConnection(error)))) throw error
      }
      await pause(Math.random() * Math.min(maxPauseMs, 2 ** tries))
    }
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

function asStoreError(error: unknown): unknown {
  if (error instanceof HttpError) return error
  // ER_DATA_TOO_LONG: only ids and names have columns that a request can overflow.
  if (errnoOf(error) === 1406) return new NameTooLongError(error)
  return new StoreUnavailableError(error)
}

/** Another verb was faster, and everything of this one is undone: lock wait, deadlock, a key that exists by now. */
function isLostRace(error: unknown): boolean {
  return [1205, 1213, 1062, 1020].includes(errnoOf(error))
}

/** A connection that was open has closed. Not that none can be opened: that would only be slower to say so. */
function isLostConnection(error: unknown): boolean {
  const code = codeOf(error)
  return code === 'PROTOCOL_CONNECTION_LOST' || code === 'ECONNRESET' || code === 'EPIPE' || errnoOf(error) === 4031
}

function errnoOf(error: unknown): number {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? error.errno : 0
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}
