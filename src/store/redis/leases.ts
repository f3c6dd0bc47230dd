import type { LeaseStore } from '../store.ts'
import type { RedisConnection } from './connection.ts'

/** Leases by Redis's clock, their fences from the counter that claims are checked against. */
export function createRedisLeases(connection: RedisConnection): LeaseStore {
  return {
    async acquire({ name, holder, ttlMs }) {
      const fence = await connection.call<number | null>('acquire-lease', name, holder, ttlMs)
      return fence === null ? undefined : { fence, holder }
    },
    async release({ name, holder }) {
      await connection.call('release-lease', name, holder)
    },
  }
}
