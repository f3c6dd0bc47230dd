import { Kysely, SqliteDialect } from 'kysely'
import { sqliteColumnTypes } from '../../src/store/sql/column-types.ts'
import { sqliteDialect } from '../../src/store/sql/dialect.ts'
import { GroupCommit } from '../../src/store/sql/group-commit.ts'
import { migrate } from '../../src/store/sql/migrations/migrate.ts'
import type { SqlContext } from '../../src/store/sql/runner.ts'
import type { Schema } from '../../src/store/sql/schema.ts'
import { openSqliteFile, type SqliteFile } from '../../src/store/sql/sqlite-file.ts'

/** An empty store's insides: its runner, and every statement that Kysely asked for since it was opened. */
export async function openWatchedSqlite(path: string) {
  const file = openSqliteFile({ file: path, sync: 'normal' })
  const statements: string[] = []
  const watched: SqliteFile = {
    prepare: (statement) => {
      statements.push(statement)
      return file.prepare(statement)
    },
    exec: (statement) => file.exec(statement),
    get inTransaction() {
      return file.inTransaction
    },
    close: () => file.close(),
  }
  const database = new Kysely<Schema>({ dialect: new SqliteDialect({ database: watched }) })
  const runner = new GroupCommit({ database, file: watched })
  const context: SqlContext = { runner, dialect: sqliteDialect, clock: async () => 1_700_000_000_000 }
  await migrate(context, sqliteColumnTypes)
  statements.length = 0
  return { runner, context, statements }
}
