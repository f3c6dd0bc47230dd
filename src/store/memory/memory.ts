import { StoreUnavailableError } from '../../errors.ts'
import type { Store } from '../store.ts'
import type { FenceMark } from './fence.ts'
import { createMemoryLeases } from './leases.ts'
import { createMemoryPrompts } from './prompts.ts'
import { createMemoryRecords } from './records.ts'

/** A store for tests and demos: nothing outlives the process. `now` gives milliseconds since the epoch. */
export function createMemoryStore({ now = Date.now }: { now?: () => number } = {}): Store {
  const fence: FenceMark = { highest: 0 }
  let isClosed = false
  const guard = <T extends object>(verbs: T): T =>
    new Proxy(verbs, {
      get(target, name) {
        if (isClosed) return () => Promise.reject(new StoreUnavailableError(new Error('The store is closed')))
        return Reflect.get(target, name)
      },
    })
  return {
    prompts: guard(createMemoryPrompts({ now, fence })),
    records: guard(createMemoryRecords({ now })),
    leases: guard(createMemoryLeases({ now, fence })),
    isDurable: false,
    async close() {
      isClosed = true
    },
  }
}
