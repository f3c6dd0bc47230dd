import { type RawBuilder, sql } from 'kysely'

/** How a dialect spells the kinds of columns that the migrations use, and what else a table needs. */
export interface ColumnTypes {
  /** An id or name that clients or workers choose, at most 256 characters. Compared byte by byte. */
  key: RawBuilder<unknown>
  /** An id, name or hash that is made here, at most 120 characters. Compared byte by byte. */
  name: RawBuilder<unknown>
  /** Text of any usual length. An index holds its beginning at most, see `beginningOf`. */
  shortText: RawBuilder<unknown>
  /** At least 100 MB of text. */
  longText: RawBuilder<unknown>
  /** 64 bits, signed. */
  integer: RawBuilder<unknown>
  /** A 64-bit float. */
  float: RawBuilder<unknown>
  flag: RawBuilder<unknown>
  /** What stands behind the parenthesis of `create table`. */
  tableEnd: RawBuilder<unknown>
  /** A `shortText` column as part of an index. */
  beginningOf(column: string): RawBuilder<unknown>
}

export const sqliteColumnTypes: ColumnTypes = {
  key: sql`text`,
  name: sql`text`,
  shortText: sql`text`,
  longText: sql`text`,
  integer: sql`integer`,
  float: sql`real`,
  flag: sql`integer`,
  tableEnd: sql``,
  beginningOf: (column) => sql.ref(column),
}

// The widest index, prompt_files' by prompt, has 2 keys and 2 names: 3,072 bytes are allowed, 4 a character.
export const mysqlColumnTypes: ColumnTypes = {
  key: sql`varchar(256)`,
  name: sql`varchar(120)`,
  shortText: sql`mediumtext`,
  longText: sql`longtext`,
  integer: sql`bigint`,
  float: sql`double`,
  flag: sql`tinyint`,
  // MySQL and MariaDB share no binary collation without padding: see mysql-text.ts for spaces at the end.
  tableEnd: sql`engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin`,
  beginningOf: (column) => sql`${sql.ref(column)}(191)`,
}
