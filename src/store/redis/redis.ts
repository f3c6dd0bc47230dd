import type { Logger } from 'pino'
import type { Store } from '../store.ts'
import { RedisConnection } from './connection.ts'
import { createRedisLeases } from './leases.ts'
import { createRedisPrompts } from './prompts.ts'
import { createRedisRecords } from './records.ts'

const silent = { info: () => undefined, warn: () => undefined }

/**
 * A store in Redis, which several gateways may share. Its clock is Redis's own. `timeoutMs` bounds each call;
 * `historyMs` is how long finished prompts are kept (see HISTORY_MAX_AGE_DAYS): some time after, their texts expire even
 * when no gateway prunes; undefined for ever. Throws StoreUnavailableError when Redis cannot be reached now,
 * StoreOpenError when it refuses us or must not be used as it is configured.
 */
export async function createRedisStore({
  url,
  prefix,
  timeoutMs,
  historyMs,
  log = silent,
  now,
}: {
  url: string
  prefix: string
  timeoutMs: number
  historyMs?: number | undefined
  log?: Pick<Logger, 'info' | 'warn'>
  /** For tests: milliseconds since the epoch, instead of Redis's clock. */
  now?: () => number
}): Promise<Store> {
  const connection = await RedisConnection.open({ url, prefix, timeoutMs, log, now })
  return {
    prompts: tracked(connection, createRedisPrompts(connection, { historyMs })),
    records: tracked(connection, createRedisRecords(connection)),
    leases: tracked(connection, createRedisLeases(connection)),
    isDurable: true,
    close: () => connection.close(),
  }
}

/** The same verbs, known to the connection as long as they run. */
function tracked<T extends object>(connection: RedisConnection, verbs: T): T {
  return new Proxy(verbs, {
    get(target, name) {
      const verb: unknown = Reflect.get(target, name)
      return typeof verb === 'function'
        ? (...args: unknown[]) => connection.track(() => verb.apply(target, args))
        : verb
    },
  })
}
