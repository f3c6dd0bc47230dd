import { historyWindow } from '../history-window.ts'
import type { HistoryEntry, PromptStore } from '../store.ts'
import type { RedisConnection } from './connection.ts'
import { optional } from './optional.ts'

type Entries = [found: [promptId: string, text: string][], left: string[]]

/** Ids in one call. */
const idsAtOnce = 500

/**
 * The history. Which entries a page has is decided in one moment; those beyond some megabytes are read shortly after it.
 * Clearing goes in steps of 200 entries, each atomic; what ends meanwhile stays.
 */
export function createRedisPromptHistory(
  connection: RedisConnection,
): Pick<PromptStore, 'history' | 'historyEntry' | 'deleteHistory' | 'clearHistory'> {
  return {
    async history(query) {
      const window = historyWindow(query)
      const skip = window.kind === 'from' ? window.skip : 0
      let [found, left] = await connection.call<Entries>(
        'history',
        optional(query.owner),
        window.kind,
        skip,
        window.count ?? '',
      )
      const entries: HistoryEntry[] = []
      for (;;) {
        for (const [promptId, text] of found) entries.push({ promptId, text })
        if (left.length === 0) return entries
        const next = left.slice(0, idsAtOnce)
        const later = left.slice(idsAtOnce)
        ;[found, left] = await connection.call<Entries>('read-entries', ...next)
        left.push(...later)
      }
    },

    async historyEntry(promptId) {
      const text = await connection.call<string | null>('history-entry', promptId)
      return text === null ? undefined : { promptId, text }
    },

    async deleteHistory({ promptIds, owner }) {
      const pieces: Promise<unknown>[] = []
      for (let at = 0; at < promptIds.length; at += idsAtOnce) {
        pieces.push(connection.call('delete-history', optional(owner), ...promptIds.slice(at, at + idsAtOnce)))
      }
      await Promise.all(pieces)
    },

    async clearHistory({ caller }) {
      let last = ''
      let hasMore = 1
      while (hasMore === 1) [last, hasMore] = await connection.call<[string, number]>('clear-history', caller, last)
    },
  }
}
