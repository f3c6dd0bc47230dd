import type { PromptStore } from '../store.ts'
import type { RedisConnection } from './connection.ts'

/** Pruning goes in steps, each atomic, between bounds that the first of them sets. */
export function createRedisPruning(connection: RedisConnection): Pick<PromptStore, 'prune'> {
  return {
    async prune({ maxEntries, maxAgeMs }) {
      let forgotten = 0
      let bounds = ['', '']
      for (;;) {
        const [step, surplus, before] = await connection.call<[number, string, string]>(
          'prune',
          maxEntries ?? '',
          maxAgeMs ?? '',
          ...bounds,
        )
        if (step === 0) return forgotten
        forgotten += step
        bounds = [surplus, before]
      }
    },
  }
}
