import type { Transaction } from 'kysely'
import type { Schema } from './schema.ts'

/** Runs the verbs of a store against one database. */
export interface Runner {
  /**
   * Runs a verb atomically and resolves once what it wrote is durable. An HttpError that the verb throws (a domain
   * error) passes through and undoes only this verb; every other failure becomes StoreUnavailableError with its cause.
   * The verb may run more than once, and must await nothing but the database.
   */
  run<T>(verb: (trx: Transaction<Schema>) => Promise<T>): Promise<T>
}

/** What the SQL verbs need of their back end. */
export interface SqlContext {
  runner: Runner
  /** The store's clock: milliseconds since the epoch, one for all gateways that share the database. */
  clock(trx: Transaction<Schema>): Promise<number>
}
