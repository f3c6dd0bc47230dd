import type { Transaction } from 'kysely'
import { historyWindow } from '../history-window.ts'
import type { PromptStore } from '../store.ts'
import { chunks } from './chunks.ts'
import type { SqlContext } from './runner.ts'
import type { Schema } from './schema.ts'

type HistoryVerbs = Pick<PromptStore, 'history' | 'historyEntry' | 'deleteHistory' | 'clearHistory'>

export function createSqlPromptHistory({ runner }: SqlContext): HistoryVerbs {
  return {
    history: async (query) => {
      const window = historyWindow(query)
      const { owner } = query
      const rows = await runner.run((trx) =>
        trx
          .selectFrom('prompt_history')
          .select(['prompt_id as promptId', 'text'])
          .where('visible', '=', 1)
          .$if(owner !== undefined, (some) => some.where('owner', '=', owner ?? ''))
          .orderBy('finish_order', window.kind === 'newest' ? 'desc' : 'asc')
          .$if(window.count !== undefined || window.kind === 'from', (some) =>
            // SQL knows no offset without a limit.
            some.limit(window.count ?? Number.MAX_SAFE_INTEGER),
          )
          .$if(window.kind === 'from', (some) => some.offset(window.kind === 'from' ? window.skip : 0))
          .execute(),
      )
      return window.kind === 'newest' ? rows.reverse() : rows
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
