import { createHash } from 'node:crypto'
import { type CompiledQuery, type Kysely, sql } from 'kysely'
import { StoreOpenError } from '../../open-error.ts'
import { mysqlColumnTypes } from '../column-types.ts'
import type { Schema } from '../schema.ts'
import { createVersionsTable, migrations, refuseNewer } from './migrate.ts'
import { statementsOf } from './statements.ts'

/** How long another gateway may be busy with the same. */
const lockSeconds = 600

/**
 * Brings the tables of a database up to this version. Of several gateways that start at once one does it and the others
 * wait for it. MySQL commits each statement by itself, so a step that was cut off goes on where it stopped. Nothing is
 * created when nothing is missing: whoever made the tables by hand needs no right to do so.
 *
 * Throws StoreOpenError when the tables are newer than this program, and whatever the database refuses.
 */
export async function migrateMysql(database: Kysely<Schema>, databaseName: string): Promise<void> {
  if (isUpToDate(await versionOf(database))) return
  // Names of locks are shared by all databases of a server and have at most 64 characters.
  const lock = `comfyfleet-${createHash('sha256').update(databaseName).digest('hex').slice(0, 32)}`
  await database.connection().execute(async (connection) => {
    const { rows } = await sql<{ taken: number }>`select get_lock(${lock}, ${lockSeconds}) as taken`.execute(connection)
    if (rows[0]?.taken !== 1) {
      throw new StoreOpenError(
        'Another gateway has been changing the tables for 10 minutes: start this one again later',
      )
    }
    try {
      await bringUp(connection)
    } finally {
      await sql`select release_lock(${lock})`.execute(connection)
    }
  })
}

async function bringUp(connection: Kysely<Schema>): Promise<void> {
  let version = await versionOf(connection)
  if (isUpToDate(version)) return
  // Only what an earlier try left may be there already; a database with tables of another program is not touched.
  const isResumed = version !== undefined
  if (version === undefined) {
    for (const statement of await statementsOf((trx) => createVersionsTable(trx, mysqlColumnTypes))) {
      await connection.executeQuery(statement)
    }
    version = 0
  }
  for (const [at, step] of migrations.entries()) {
    if (at < version) continue
    for (const statement of await statementsOf((trx) => step.up(trx, mysqlColumnTypes))) {
      await execute(connection, statement, { mayBeDone: isResumed })
    }
    await connection
      .insertInto('schema_versions')
      .values({ version: at + 1, name: step.name, applied_at: Date.now() })
      .execute()
  }
}

async function execute(
  connection: Kysely<Schema>,
  statement: CompiledQuery,
  { mayBeDone }: { mayBeDone: boolean },
): Promise<void> {
  try {
    await connection.executeQuery(statement)
  } catch (error) {
    // The table, column, index, foreign key or row is there already.
    if (!mayBeDone || ![1050, 1060, 1061, 1062, 1826].includes(errnoOf(error))) throw error
  }
}

function isUpToDate(version: number | undefined): boolean {
  if (version === undefined) return false
  refuseNewer(version)
  return version === migrations.length
}

/** Undefined when not even the table of versions exists. */
async function versionOf(database: Kysely<Schema>): Promise<number | undefined> {
  try {
    const row = await database
      .selectFrom('schema_versions')
      .select((eb) => eb.fn.max('version').as('version'))
      .executeTakeFirst()
    return row?.version ?? 0
  } catch (error) {
    // ER_NO_SUCH_TABLE
    if (errnoOf(error) === 1146) return undefined
    throw error
  }
}

function errnoOf(error: unknown): number {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? error.errno : 0
}
