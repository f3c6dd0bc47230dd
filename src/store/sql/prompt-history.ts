import type { Transaction } from 'kysely'
import { historyWindow } from '../history-window.ts'
import type { HistoryEntry, PromptStore } from '../store.ts'
import { chunks } from './chunks.ts'
import type { SqlContext } from './runner.ts'
import type { Schema } from './schema.ts'

type HistoryVerbs = Pick<PromptStore, 'history' | 'historyEntry' | 'deleteHistory' | 'clearHistory'>

export function createSqlPromptHistory({ runner }: SqlContext): HistoryVerbs {
  return {
    history: async (query) => {
      const window = historyWindow(query)
      const listed = (trx: Transaction<Schema>) =>
        trx
          .selectFrom('prompt_history')
          .where('visible', '=', 1)
          .$if(query.owner !== undefined, (some) => some.where('owner', '=', query.owner ?? ''))
      if (window.kind === 'newest') {
        const rows = await runner.run((trx) =>
          listed(trx)
            .select(['prompt_id as promptId', 'text'])
            .orderBy('finish_order', 'desc')
            .$if(window.count !== undefined, (some) => some.limit(window.count ?? 0))
            .execute(),
        )
        return rows.reverse()
      }
      return runner.read(async (trx) => {
        // First the places, by the index alone: what is skipped is not read.
        const places = await listed(trx)
          .select('prompt_sequence')
          .orderBy('finish_order')
          // SQL knows no offset without a limit.
          .limit(window.count ?? Number.MAX_SAFE_INTEGER)
          .offset(window.skip)
          .execute()
        const entries = new Map<number, HistoryEntry>()
        for (const some of chunks(places.map((place) => place.prompt_sequence))) {
          const rows = await trx
            .selectFrom('prompt_history')
            .select(['prompt_sequence', 'prompt_id', 'text'])
            .where('prompt_sequence', 'in', some)
            .execute()
          for (const row of rows) entries.set(row.prompt_sequence, { promptId: row.prompt_id, text: row.text })
        }
        return places.flatMap((place) => entries.get(place.prompt_sequence) ?? [])
      })
    },

    historyEntry: (promptId) =>
      runner.run((trx) =>
        trx
          .selectFrom('prompt_history')
          .innerJoin('prompts', 'prompts.sequence', 'prompt_history.prompt_sequence')
          .select(['prompts.prompt_id as promptId', 'prompt_history.text'])
          .where('prompts.prompt_id', '=', promptId)
          .executeTakeFirst(),
      ),

    deleteHistory: ({ promptIds, owner }) =>
      runner.run(async (trx) => {
        for (const some of chunks(promptIds)) {
          const ended = await trx
            .selectFrom('prompts')
            .select('sequence')
            .where('prompt_id', 'in', some)
            .where('finish_order', 'is not', null)
            .$if(owner !== undefined, (query) => query.where('owner', '=', owner ?? ''))
            .execute()
          await forget(
            trx,
            ended.map((row) => row.sequence),
          )
        }
      }),

    clearHistory: ({ caller }) =>
      runner.run(async (trx) => {
        const entries = await trx
          .selectFrom('prompt_history')
          .select('prompt_sequence')
          .where('caller', '=', caller)
          .execute()
        for (const some of chunks(entries)) {
          await forget(
            trx,
            some.map((row) => row.prompt_sequence),
          )
        }
      }),
  }
}

/**
 * Removes the entries of prompts that have ended, named by sequence: what ends between the two writes is not among them,
 * and MySQL walks through a whole table to delete by a subquery.
 */
async function forget(trx: Transaction<Schema>, sequences: readonly number[]): Promise<void> {
  if (sequences.length === 0) return
  await trx.updateTable('prompts').set({ listed: 0 }).where('sequence', 'in', sequences).execute()
  await trx.deleteFrom('prompt_history').where('prompt_sequence', 'in', sequences).execute()
}
