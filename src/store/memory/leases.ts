import type { LeaseStore } from '../store.ts'
import type { FenceMark } from './fence.ts'

/** Leases in a map. `now` gives milliseconds since the epoch. */
export function createMemoryLeases({ now, fence }: { now: () => number; fence: FenceMark }): LeaseStore {
  const held = new Map<string, { holder: string; fence: number; expiresAt: number }>()
  return {
    async acquire({ name, holder, ttlMs }) {
      const current = held.get(name)
      if (current !== undefined && current.holder !== holder && current.expiresAt > now()) return undefined
      if (current?.holder !== holder) fence.highest += 1
      const granted = current?.holder === holder ? current.fence : fence.highest
      held.set(name, { holder, fence: granted, expiresAt: now() + ttlMs })
      return { holder, fence: granted }
    },
    async release({ name, holder }) {
      if (held.get(name)?.holder === holder) held.delete(name)
    },
  }
}
