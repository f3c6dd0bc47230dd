import { Kysely, SqliteDialect } from 'kysely'
import { StoreUnavailableError } from '../../errors.ts'
import { StoreOpenError } from '../open-error.ts'
import type { Store } from '../store.ts'
import { sqliteColumnTypes } from './column-types.ts'
import { sqliteDialect } from './dialect.ts'
import { GroupCommit } from './group-commit.ts'
import { createSqlLeases } from './leases.ts'
import { migrate } from './migrations/migrate.ts'
import { createSqlPrompts } from './prompts.ts'
import { createSqlRecords } from './records.ts'
import type { SqlContext } from './runner.ts'
import type { Schema } from './schema.ts'
import { openSqliteFile, type SqliteSync } from './sqlite-file.ts'

/**
 * A store in one SQLite file, which it has for itself until `close`. `now` gives milliseconds since the epoch. Throws
 * StoreOpenError when the file is in use, cannot be opened, or was written by a newer version.
 */
export async function createSqliteStore({
  file,
  sync,
  now = Date.now,
}: {
  file: string
  sync: SqliteSync
  now?: () => number
}): Promise<Store> {
  const opened = openSqliteFile({ file, sync })
  const database = new Kysely<Schema>({ dialect: new SqliteDialect({ database: opened }) })
  const runner = new GroupCommit({ database, file: opened })
  const context: SqlContext = { runner, dialect: sqliteDialect, clock: async () => now() }
  try {
    await migrate(context, sqliteColumnTypes)
  } catch (error) {
    await runner.close()
    if (error instanceof StoreUnavailableError) {
      throw new StoreOpenError(`The store ${file} cannot be brought up to this version`, error.cause)
    }
    throw error
  }
  return {
    prompts: createSqlPrompts(context),
    records: createSqlRecords(context),
    leases: createSqlLeases(context),
    isDurable: true,
    close: () => runner.close(),
  }
}
