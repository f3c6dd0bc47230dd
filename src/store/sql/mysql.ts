import { CompiledQuery, type DatabaseConnection, Kysely, MysqlDialect, type MysqlPool } from 'kysely'
import { StoreUnavailableError } from '../../errors.ts'
import { StoreOpenError } from '../open-error.ts'
import type { Store } from '../store.ts'
import { mysqlDialect } from './dialect.ts'
import { createSqlLeases } from './leases.ts'
import { migrateMysql } from './migrations/migrate-mysql.ts'
import { type MysqlSettings, openMysqlPool } from './mysql-pool.ts'
import { MysqlRunner } from './mysql-runner.ts'
import { checkMysqlServer, mysqlClock } from './mysql-server.ts'
import { sessionStatements } from './mysql-session.ts'
import { createSqlPrompts } from './prompts.ts'
import { createSqlRecords } from './records.ts'
import type { SqlContext } from './runner.ts'
import type { Schema } from './schema.ts'

export interface MysqlOptions {
  settings: MysqlSettings
  /** Milliseconds one statement may take. */
  timeoutMs: number
  /** The largest body that is accepted; a server that cannot take it is worth a warning. */
  maxBodyBytes: number
  /** Hears, one sentence each, what the operator should change at the server. */
  warn?: (sentence: string) => void
  /** The store's clock; tests have one of their own. */
  clock?: SqlContext['clock']
}

/**
 * A store in a MySQL or MariaDB database, which other gateways may use at the same time. Creates or changes the tables
 * when that is needed. Throws StoreUnavailableError when the server cannot be reached just now, so trying again later
 * can help, and StoreOpenError when the operator has to change something.
 */
export async function createMysqlStore(options: MysqlOptions): Promise<Store> {
  const { settings, timeoutMs, clock = mysqlClock } = options
  const { maxPacketBytes } = await prepare(options)
  // The runner needs the database, and the pool of the database reports to the runner.
  let runner: MysqlRunner | undefined
  const limits = { timeoutMs, connectTimeoutMs: timeoutMs, maxPacketBytes }
  const pool = openMysqlPool(settings, limits, { onAnswer: () => runner?.answered() })
  const lockWaitSeconds = Math.max(1, Math.floor(timeoutMs / 2_000))
  runner = new MysqlRunner({
    database: databaseOf(pool, { lockWaitSeconds }),
    connections: settings.connections,
    timeoutMs,
  })
  const closing = runner
  const context: SqlContext = { runner, dialect: mysqlDialect, clock }
  return {
    prompts: createSqlPrompts(context),
    records: createSqlRecords(context),
    leases: createSqlLeases(context),
    isDurable: true,
    close: () => closing.close(),
  }
}

/** Checks the server and brings the tables up to date, on a connection that may take its time. */
async function prepare({
  settings,
  timeoutMs,
  maxBodyBytes,
  warn = () => {},
}: MysqlOptions): Promise<{ maxPacketBytes: number }> {
  const limits = { timeoutMs: undefined, connectTimeoutMs: timeoutMs, maxPacketBytes: Number.POSITIVE_INFINITY }
  const database = databaseOf(openMysqlPool({ ...settings, connections: 1 }, limits), { lockWaitSeconds: 50 })
  try {
    const server = await checkMysqlServer(database, { maxBodyBytes, warn })
    await migrateMysql(database, settings.database)
    return server
  } catch (error) {
    throw openError(error, settings)
  } finally {
    await database.destroy()
  }
}

function databaseOf(pool: MysqlPool, { lockWaitSeconds }: { lockWaitSeconds: number }): Kysely<Schema> {
  const onCreateConnection = async (connection: DatabaseConnection) => {
    for (const statement of sessionStatements({ lockWaitSeconds })) {
      await connection.executeQuery(CompiledQuery.raw(statement))
    }
  }
  return new Kysely<Schema>({ dialect: new MysqlDialect({ pool, onCreateConnection }) })
}

function openError(error: unknown, { host, port, user, database }: MysqlSettings): Error {
  if (error instanceof StoreOpenError) return error
  const errno = error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? error.errno : 0
  const isOfDriver = errno <= 0 && error instanceof Error && 'code' in error
  const place = `${database} at ${host}:${port}`
  // Not reached, or full, or shutting down: it passes.
  if (isOfDriver || [1040, 1053, 1203, 1226].includes(errno)) return new StoreUnavailableError(error)
  if (errno === 1045 || errno === 1698) {
    return new StoreOpenError(`The database ${place} refuses the user ${user} or its password`, error)
  }
  if (errno === 1049) return new StoreOpenError(`There is no database ${place}: create it first`, error)
  if (errno === 1044 || errno === 1142) {
    return new StoreOpenError(
      `The user ${user} may not create tables in the database ${place}: allow it, or create them with docs/mysql_schema.sql`,
      error,
    )
  }
  const message = error instanceof Error ? error.message : String(error)
  return new StoreOpenError(`The database ${place} cannot be used as a store: ${message}`, error)
}
