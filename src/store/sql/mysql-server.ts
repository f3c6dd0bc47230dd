import { type Kysely, sql, type Transaction } from 'kysely'
import { StoreOpenError } from '../open-error.ts'
import type { Schema } from './schema.ts'

/** What is needed for workflows of 16 MB, and what both databases have when nobody sets it. */
const leastPacketBytes = 16 * 1024 * 1024

/**
 * Asks the server whether it can be the store, and answers the largest statement it takes (`max_allowed_packet`). What
 * works but is not as it should be goes to `warn`, one sentence each. Throws StoreOpenError when it cannot.
 */
export async function checkMysqlServer(
  database: Kysely<Schema>,
  { maxBodyBytes, warn }: { maxBodyBytes: number; warn: (sentence: string) => void },
): Promise<{ maxPacketBytes: number }> {
  const { rows } = await sql<{ version: string; packet: number; flush: number }>`
    select version() as version, @@max_allowed_packet as packet, @@innodb_flush_log_at_trx_commit as flush
  `.execute(database)
  const [server] = rows
  if (server === undefined) throw new StoreOpenError('The database does not say which version it is')
  if (!isNewEnough(server.version)) {
    throw new StoreOpenError(`The database is ${server.version}: MySQL 8.0 or MariaDB 10.6 is the oldest that will do`)
  }
  if (server.packet < leastPacketBytes) {
    throw new StoreOpenError(
      `The database takes statements of ${server.packet} bytes only: set its max_allowed_packet to ${leastPacketBytes} or more`,
    )
  }
  if (server.packet < maxBodyBytes) {
    warn(
      `The database takes statements of ${server.packet} bytes, so larger workflows are refused although MAX_BODY_BYTES is ${maxBodyBytes}: raise its max_allowed_packet`,
    )
  }
  if (server.flush !== 1) {
    warn(
      `The database may lose what it has confirmed when its machine loses power: set its innodb_flush_log_at_trx_commit to 1, not ${server.flush}`,
    )
  }
  return { maxPacketBytes: server.packet }
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10))
  if (!/mariadb/i.test(version)) return major >= 8
  return major > 10 || (major === 10 && minor >= 6)
}

/** The server's clock: milliseconds since the epoch, whatever time zone it or the session has. */
export async function mysqlClock(trx: Transaction<Schema>): Promise<number> {
  const { rows } = await sql<{ now: number }>`
    select timestampdiff(microsecond, '1970-01-01', utc_timestamp(3)) div 1000 as now
  `.execute(trx)
  const [row] = rows
  if (row === undefined) throw new Error('The database does not know the time')
  return row.now
}
