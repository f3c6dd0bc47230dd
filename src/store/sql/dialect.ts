import { createHash } from 'node:crypto'
import { type Expression, sql } from 'kysely'

interface Extensible<Q> {
  modifyEnd(end: Expression<unknown>): Q
}

/** Where the databases differ in what the verbs have to say. */
export interface SqlDialect {
  /** Has the selected rows for this verb alone until it ends, as they are now, for a decision about a write. */
  forUpdate<Q extends Extensible<Q>>(select: Q): Q
  /** Keeps others from changing the selected rows until the verb ends. */
  forShare<Q extends Extensible<Q>>(select: Q): Q
  /** Whether the parts of an ordered union are merged by their indexes. Else all of each part is read and sorted. */
  readonly mergesUnions: boolean
  /** What stands for a name of any length in a `key` column; only the same name has the same. */
  keyOf(name: string): string
}

/** A transaction has the whole file for itself: nothing needs to be locked. */
export const sqliteDialect: SqlDialect = {
  forUpdate: (select) => select,
  forShare: (select) => select,
  mergesUnions: true,
  keyOf: (name) => name,
}

export const mysqlDialect: SqlDialect = {
  forUpdate: (select) => select.modifyEnd(sql`for update`),
  // MariaDB has no `for share`.
  forShare: (select) => select.modifyEnd(sql`lock in share mode`),
  mergesUnions: false,
  // Half of what the column holds: odd characters are written as several, see odd-text.ts. A name cannot hold a slash.
  keyOf: (name) => (name.length <= 128 ? name : `sha256/${createHash('sha256').update(name, 'utf16le').digest('hex')}`),
}
