import { type RawBuilder, sql } from 'kysely'

/** How a dialect spells the kinds of columns that the migrations use. */
export interface ColumnTypes {
  /** An id, name or hash that an index may hold. Compared byte by byte. */
  key: RawBuilder<unknown>
  /** A few words; no index holds it. */
  shortText: RawBuilder<unknown>
  /** At least 100 MB of text. */
  longText: RawBuilder<unknown>
  /** 64 bits, signed. */
  integer: RawBuilder<unknown>
  /** A 64-bit float. */
  float: RawBuilder<unknown>
  flag: RawBuilder<unknown>
}

export const sqliteColumnTypes: ColumnTypes = {
  key: sql`text`,
  shortText: sql`text`,
  longText: sql`text`,
  integer: sql`integer`,
  float: sql`real`,
  flag: sql`integer`,
}
