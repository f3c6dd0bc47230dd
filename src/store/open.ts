import { join } from 'node:path'
import type { Logger } from 'pino'
import { createMemoryStore } from './memory/memory.ts'
import { StoreOpenError } from './open-error.ts'
import { createRedisStore } from './redis/redis.ts'
import { createMysqlStore, type MysqlOptions } from './sql/mysql.ts'
import { createSqliteStore } from './sql/sqlite.ts'
import type { SqliteSync } from './sql/sqlite-file.ts'
import type { Store } from './store.ts'

export interface RedisSettings {
  url: string
  prefix: string
  timeoutMs: number
  /** How long finished prompts are kept; undefined for ever. */
  historyMs: number | undefined
  log: Pick<Logger, 'info' | 'warn'>
}

/**
 * Opens the back end that the settings name. SQLite's file is `comfyfleet.sqlite` in `dataDir`, which is created when
 * it is missing. Throws StoreOpenError with a sentence for the operator, StoreUnavailableError when a server cannot be
 * reached now.
 */
export async function openStore(settings: {
  kind: 'sqlite' | 'memory' | 'mysql' | 'redis'
  dataDir: string
  sqliteSync: SqliteSync
  redis?: RedisSettings | undefined
  mysql?: MysqlOptions | undefined
}): Promise<Store> {
  switch (settings.kind) {
    case 'memory':
      return createMemoryStore()
    case 'sqlite':
      return createSqliteStore({ file: join(settings.dataDir, 'comfyfleet.sqlite'), sync: settings.sqliteSync })
    case 'redis':
      // The settings are checked: REDIS_URL is there when Redis is chosen.
      if (settings.redis === undefined) throw new StoreOpenError('REDIS_URL is missing')
      return createRedisStore(settings.redis)
    case 'mysql':
      // Likewise.
      if (settings.mysql === undefined) throw new StoreOpenError('MYSQL_DATABASE is missing')
      return createMysqlStore(settings.mysql)
    default:
      return settings.kind satisfies never
  }
}
