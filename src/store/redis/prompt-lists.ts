import { unfinishedStatuses } from '../admission.ts'
import type { PromptRecord, PromptStatus, PromptStore } from '../store.ts'
import type { RedisConnection } from './connection.ts'
import { optional } from './optional.ts'
import { type PromptFields, toPromptRecord } from './prompt-fields.ts'

const allStatuses: readonly PromptStatus[] = [...unfinishedStatuses, 'succeeded', 'failed', 'cancelled']
/** What one script reads, so that none stops Redis for long. */
const placesAtOnce = 500
/** Calls under way together: one is read while Redis works on the next. More would wait for each other in vain. */
const callsAtOnce = 2

/**
 * The verbs that answer many prompts. Which ones is decided in one moment; beyond the first 500 their records are read
 * shortly after it, and those that are gone by then are left out.
 */
export function createRedisPromptLists(
  connection: RedisConnection,
): Pick<PromptStore, 'unfinished' | 'list' | 'untold'> {
  async function readAll(first: PromptFields[], left: readonly string[]): Promise<PromptRecord[]> {
    const rows = [...first]
    for (let at = 0; at < left.length; at += placesAtOnce * callsAtOnce) {
      const calls = Array.from({ length: callsAtOnce }, (_, call) => {
        const places = left.slice(at + call * placesAtOnce, at + (call + 1) * placesAtOnce)
        return places.length === 0 ? [[]] : connection.call<[PromptFields[], string[]]>('read-prompts', ...places)
      })
      for (const [found] of await Promise.all(calls)) rows.push(...(found ?? []))
    }
    return rows.map(toPromptRecord).filter((record) => record !== undefined)
  }

  return {
    async unfinished() {
      const records = await readAll(...(await connection.call<[PromptFields[], string[]]>('unfinished')))
      return records.filter((record) => record.finishedAt === undefined)
    },

    async list({ owner, statuses, workflowId, sortBy, descending, limit, offset }) {
      const [total, first, left] = await connection.call<[number, PromptFields[], string[]]>(
        'list',
        sortBy === 'created_at' ? 'created' : 'duration',
        descending ? 1 : 0,
        offset,
        limit ?? '',
        optional(owner),
        optional(workflowId),
        ...new Set(statuses.length === 0 ? allStatuses : statuses),
      )
      return { prompts: await readAll(first, left), total }
    },

    async untold(withinMs) {
      const records = await readAll(...(await connection.call<[PromptFields[], string[]]>('untold', withinMs)))
      return records.filter((record) => !record.told)
    },
  }
}
