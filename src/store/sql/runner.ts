import type { Transaction } from 'kysely'
import type { SqlDialect } from './dialect.ts'
import type { Schema } from './schema.ts'

/** Runs the verbs of a store against one database. */
export interface Runner {
  /**
   * Runs a verb atomically and resolves once what it wrote is durable. An HttpError that the verb throws (a domain
   * error) passes through and undoes only this verb; every other failure becomes StoreUnavailableError with its cause.
   * The verb may run more than once, and must await nothing but the database.
   */
  run<T>(verb: Verb<T>): Promise<T>
  /** As `run`, for a verb that only reads: all its reads see one state of the database. */
  read<T>(verb: Verb<T>): Promise<T>
  /**
   * As `run`, and begins only when the verb called before it, among those of this method, has called `passOn` or ended.
   * So what they do before `passOn` happens in the order of the calls.
   */
  runInOrder<T>(verb: (trx: Transaction<Schema>, passOn: () => void) => Promise<T>): Promise<T>
}

export type Verb<T> = (trx: Transaction<Schema>) => Promise<T>

/** What the SQL verbs need of their back end. */
export interface SqlContext {
  runner: Runner
  dialect: SqlDialect
  /** The store's clock: milliseconds since the epoch, one for all gateways that share the database. */
  clock(trx: Transaction<Schema>): Promise<number>
}
