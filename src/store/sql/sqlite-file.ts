import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import type { SqliteDatabase, SqliteStatement } from 'kysely'
import Database from 'libsql'
import { StoreOpenError } from '../open-error.ts'
import { decodeText, encodeText } from './odd-text.ts'

/** How much a committed write survives: `full` a power cut, `normal` the end of the process only. */
export type SqliteSync = 'full' | 'normal'

/** More than all statements of the store together; lists of different length make the difference. */
const maxPreparedStatements = 300

/** An open SQLite file that belongs to this process alone. The shape is what Kysely's dialect asks for, and more. */
export interface SqliteFile extends SqliteDatabase {
  /** Runs a statement that answers nothing. */
  exec(statement: string): void
  readonly inTransaction: boolean
}

/**
 * Opens a file, creating it (mode 0600) and its folders (0700). The file stays locked by the operating system until
 * `close`, or until the process ends in whatever way. Throws StoreOpenError when another process holds it, when it
 * cannot be created or is not a SQLite file.
 */
export function openSqliteFile({ file, sync }: { file: string; sync: SqliteSync }): SqliteFile {
  try {
    createPrivately(file)
  } catch (error) {
    throw new StoreOpenError(`The store ${file} cannot be created: ${messageOf(error)}`, error)
  }
  let database: Database.Database | undefined
  try {
    database = new Database(file)
    lock(database, sync)
    return new OpenFile(database)
  } catch (error) {
    database?.close()
    if (codeOf(error).startsWith('SQLITE_BUSY')) {
      throw new StoreOpenError(
        `The store ${file} is in use by another gateway: stop that one, or give this one a DATA_DIR of its own`,
        error,
      )
    }
    throw new StoreOpenError(`The store ${file} cannot be opened: ${messageOf(error)}`, error)
  }
}

function createPrivately(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  // Only a new file is touched: closing any descriptor of a file gives up all locks that this process has on it.
  if (existsSync(file)) return
  closeSync(openSync(file, 'a', 0o600))
  chmodSync(file, 0o600)
}

function lock(database: Database.Database, sync: SqliteSync): void {
  // Exclusive before WAL: then nothing is shared with other processes, and the lock is taken by the first read.
  database.exec('PRAGMA locking_mode = EXCLUSIVE')
  database.exec('PRAGMA journal_mode = WAL')
  database.exec(`PRAGMA synchronous = ${sync === 'full' ? 'FULL' : 'NORMAL'}`)
  database.exec('PRAGMA foreign_keys = ON')
  database.exec('PRAGMA temp_store = MEMORY')
  database.exec('PRAGMA cache_size = -32000')
  database.exec('PRAGMA journal_size_limit = 67108864')
  database.exec('BEGIN IMMEDIATE')
  database.exec('COMMIT')
}

class OpenFile implements SqliteFile {
  readonly #database: Database.Database
  readonly #prepared = new Map<string, SqliteStatement>()

  constructor(database: Database.Database) {
    this.#database = database
  }

  get inTransaction(): boolean {
    return this.#database.inTransaction
  }

  exec(statement: string): void {
    this.#database.exec(statement)
  }

  prepare(statement: string): SqliteStatement {
    // After some failures (disk full, for one) SQLite has rolled back already and refuses to do it again.
    if (statement === 'rollback' && !this.inTransaction) return nothing
    const known = this.#prepared.get(statement)
    if (known !== undefined) return known
    if (this.#prepared.size >= maxPreparedStatements) this.#prepared.clear()
    const prepared = withOddTexts(this.#database.prepare(statement))
    this.#prepared.set(statement, prepared)
    return prepared
  }

  close(): void {
    if (!this.#database.open) return
    this.#prepared.clear()
    try {
      // The driver keeps the file, and so the lock, until its last statement is collected. This gives it up now.
      this.#database.exec('PRAGMA journal_mode = DELETE')
      this.#database.exec('PRAGMA locking_mode = NORMAL')
      this.#database.exec('BEGIN IMMEDIATE')
      this.#database.exec('COMMIT')
    } catch {
      // What was committed is safe in the file and its log, and the lock goes with the process.
    } finally {
      this.#database.close()
    }
  }
}

const nothing: SqliteStatement = {
  reader: false,
  all: () => [],
  iterate: () => [].values(),
  run: () => ({ changes: 0, lastInsertRowid: 0 }),
}

function withOddTexts(statement: Database.Statement): SqliteStatement {
  const all = (parameters: readonly unknown[]) => {
    const rows = statement.all(parameters.map(encoded))
    for (const row of rows) decodeRow(row)
    return rows
  }
  return {
    reader: statement.reader,
    all,
    iterate: (parameters) => all(parameters).values(),
    run: (parameters) => statement.run(parameters.map(encoded)),
  }
}

function encoded(parameter: unknown): unknown {
  return typeof parameter === 'string' ? encodeText(parameter) : parameter
}

function decodeRow(row: unknown): void {
  // The driver answers each row as an object of its own, by column name.
  const columns = row as Record<string, unknown>
  for (const name in columns) {
    const value = columns[name]
    if (typeof value === 'string') columns[name] = decodeText(value)
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
