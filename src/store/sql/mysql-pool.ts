import type { MysqlOkPacket, MysqlPool, MysqlPoolConnection, MysqlQueryResult } from 'kysely'
import { createPool, type PoolConnection, type TypeCast } from 'mysql2'
import { BodyTooLargeError } from '../../errors.ts'
import { encodeMysqlText } from './mysql-text.ts'
import { decodeText } from './odd-text.ts'

/** Where the database is, and how to get in. */
export interface MysqlSettings {
  host: string
  port: number
  user: string
  password: string | undefined
  database: string
  /** Encrypts the connection and checks the server's certificate. */
  tls: boolean
  /** Connections kept at most. */
  connections: number
}

export interface MysqlLimits {
  /** A statement may keep silent this long, then its connection is given up. Undefined: as long as it likes. */
  timeoutMs: number | undefined
  connectTimeoutMs: number
  /** What the server takes in one statement: its `max_allowed_packet`. */
  maxPacketBytes: number
}

/** The server did not answer a statement in time; what it did with it is not known. */
export class MysqlTimeoutError extends Error {
  constructor(timeoutMs: number) {
    super(`The database did not answer within ${timeoutMs} ms`)
    this.name = 'MysqlTimeoutError'
  }
}

/** Texts from this length on travel as they are, beside the statement: quoting them costs time and space. */
const longTextLength = 16_384
/** For what a statement has beside its long texts. */
const packetSpareBytes = 65_536
/** How slowly a text may travel without being taken for silence. */
const slowestBytesPerMs = 5_000

/** Opens connections when they are asked for. `onAnswer` hears of every answer of the server, be it an error. */
export function openMysqlPool(
  settings: MysqlSettings,
  limits: MysqlLimits,
  { onAnswer = () => {} }: { onAnswer?: () => void } = {},
): MysqlPool {
  const pool = createPool({
    host: settings.host,
    port: settings.port,
    user: settings.user,
    ...(settings.password === undefined ? {} : { password: settings.password }),
    database: settings.database,
    ...(settings.tls ? { ssl: { rejectUnauthorized: true, verifyIdentity: true } } : {}),
    connectionLimit: settings.connections,
    connectTimeout: limits.connectTimeoutMs,
    charset: 'UTF8MB4_BIN',
    supportBigNumbers: true,
    // Counts of changed rows include those that had the value already.
    flags: ['FOUND_ROWS'],
  })
  // The failure of an idle connection is of no interest: it leaves the pool, and the next verb opens another.
  pool.on('connection', (connection) => connection.on('error', () => {}))
  // One wrapper for each connection, because Kysely prepares each that it has not seen.
  const known = new WeakMap<PoolConnection, OpenConnection>()
  return {
    getConnection: (callback) =>
      pool.getConnection((error, raw) => {
        // The callback wants a connection also when there is none; nobody looks at it then.
        if (error !== null || raw === undefined) {
          callback(error, raw as unknown as MysqlPoolConnection)
          return
        }
        const connection = known.get(raw) ?? new OpenConnection(raw, limits, onAnswer)
        known.set(raw, connection)
        callback(null, connection)
      }),
    end: (callback) => pool.end(callback),
  }
}

type Answer = (error: unknown, result: MysqlQueryResult) => void

class OpenConnection implements MysqlPoolConnection {
  readonly #raw: PoolConnection
  readonly #limits: MysqlLimits
  readonly #onAnswer: () => void
  #isBroken = false

  constructor(raw: PoolConnection, limits: MysqlLimits, onAnswer: () => void) {
    this.#raw = raw
    this.#limits = limits
    this.#onAnswer = onAnswer
  }

  query(statement: string, parameters: unknown[]): never
  query(statement: string, parameters: unknown[], callback: Answer): void
  query(statement: string, parameters: unknown[], callback?: Answer): void {
    if (callback === undefined) throw new Error('Rows are not streamed')
    // A lost connection has rolled back already; the failure that matters is the one before.
    if (statement === 'rollback' && this.#isBroken) {
      callback(undefined, nothing)
      return
    }
    const values = parameters.map(encoded)
    const longBytes = values.reduce<number>((sum, value) => sum + bytesOfLong(value), 0)
    if (longBytes > this.#limits.maxPacketBytes - packetSpareBytes) {
      callback(new BodyTooLargeError(this.#limits.maxPacketBytes - packetSpareBytes), nothing)
      return
    }
    const settle = this.#deadline(longBytes, callback)
    const onAnswer = (error: Error | null, result: unknown) => {
      // The driver's errors carry the statement with all its values: workflows and sealed keys, not for any log.
      if (error !== null && 'sql' in error) delete error.sql
      if (error === null || !isLoss(error)) this.#onAnswer()
      if (error !== null && (isLoss(error) || statement === 'rollback')) this.#giveUp()
      if (Array.isArray(result)) for (const row of result) decodeRow(row)
      // Rows or the packet that Kysely knows: several statements at once are not allowed.
      settle(error ?? undefined, result as MysqlQueryResult)
    }
    // Only what is written: a prepared `limit ?` wants another kind of number than the driver sends.
    if (longBytes > 0 && /^(insert|update) /.test(statement))
      this.#raw.execute({ sql: statement, values: values as string[] }, onAnswer)
    else this.#raw.query({ sql: statement, values, typeCast }, onAnswer)
  }

  release(): void {
    this.#raw.release()
  }

  /** Calls back once: with what it is given, or with a failure when that does not come in time. */
  #deadline(bytes: number, callback: Answer): Answer {
    if (this.#limits.timeoutMs === undefined) return callback
    const timeoutMs = this.#limits.timeoutMs + bytes / slowestBytesPerMs
    const timer = setTimeout(() => {
      isOver = true
      this.#giveUp()
      callback(new MysqlTimeoutError(timeoutMs), nothing)
    }, timeoutMs)
    let isOver = false
    return (error, result) => {
      if (isOver) return
      clearTimeout(timer)
      callback(error, result)
    }
  }

  #giveUp(): void {
    this.#isBroken = true
    this.#raw.destroy()
  }
}

/** The driver's own reading of a number with 16 digits can be wrong in the last one. */
const typeCast: TypeCast = (field, next) => {
  if (field.type !== 'DOUBLE') return next()
  const text = field.string()
  return text === null ? null : Number(text)
}

const nothing: MysqlOkPacket = { affectedRows: 0, changedRows: 0, insertId: 0 }

/** True when the connection is gone, or leads to a server that cannot write. */
function isLoss(error: Error): boolean {
  if ('fatal' in error && error.fatal === true) return true
  const errno = 'errno' in error && typeof error.errno === 'number' ? error.errno : 0
  // Read-only (a failover went on without us), shutting down, or no number: the failure is the driver's own.
  return errno <= 0 || [1053, 1290, 1792, 1836].includes(errno)
}

function encoded(parameter: unknown): unknown {
  if (typeof parameter === 'string') return encodeMysqlText(parameter)
  // The databases have no infinite number; the largest one sorts alike.
  if (parameter === Number.POSITIVE_INFINITY) return Number.MAX_VALUE
  if (parameter === Number.NEGATIVE_INFINITY) return -Number.MAX_VALUE
  return parameter
}

function bytesOfLong(value: unknown): number {
  return typeof value === 'string' && value.length >= longTextLength ? Buffer.byteLength(value) : 0
}

function decodeRow(row: Record<string, unknown>): void {
  for (const name in row) {
    const value = row[name]
    if (typeof value === 'string') row[name] = decodeText(value)
    else if (value === Number.MAX_VALUE) row[name] = Number.POSITIVE_INFINITY
    else if (value === -Number.MAX_VALUE) row[name] = Number.NEGATIVE_INFINITY
  }
}
