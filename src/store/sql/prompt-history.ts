import { historyWindow } from '../history-window.ts'
import type { PromptStore } from '../store.ts'
import { chunks } from './chunks.ts'
import type { SqlContext } from './runner.ts'

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
          await trx
            .updateTable('prompts')
            .set({ listed: 0 })
            .where('prompt_id', 'in', some)
            .where('finish_order', 'is not', null)
            .$if(owner !== undefined, (query) => query.where('owner', '=', owner ?? ''))
            .execute()
          await trx
            .deleteFrom('prompt_history')
            .where('prompt_sequence', 'in', (eb) =>
              eb.selectFrom('prompts').select('sequence').where('prompt_id', 'in', some),
            )
            .$if(owner !== undefined, (query) => query.where('owner', '=', owner ?? ''))
            .execute()
        }
      }),

    clearHistory: ({ caller }) =>
      runner.run(async (trx) => {
        await trx
          .updateTable('prompts')
          .set({ listed: 0 })
          .where('sequence', 'in', (eb) =>
            eb.selectFrom('prompt_history').select('prompt_sequence').where('caller', '=', caller),
          )
          .execute()
        await trx.deleteFrom('prompt_history').where('caller', '=', caller).execute()
      }),
  }
}
