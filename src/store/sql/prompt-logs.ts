import type { Transaction } from 'kysely'
import { maxLogLines, type PromptStore } from '../store.ts'
import type { SqlContext } from './runner.ts'
import type { Schema } from './schema.ts'

/** Adds a line to the log of the prompt with this sequence, and drops the oldest beyond the bound. */
export async function appendLog(trx: Transaction<Schema>, sequence: number, log: { at: number; text: string }) {
  const newest = await trx
    .selectFrom('prompt_logs')
    .select('line')
    .where('prompt_sequence', '=', sequence)
    .orderBy('line', 'desc')
    .limit(1)
    .executeTakeFirst()
  const line = (newest?.line ?? 0) + 1
  await trx
    .insertInto('prompt_logs')
    .values({ prompt_sequence: sequence, line, ...log })
    .execute()
  if (line <= maxLogLines) return
  await trx
    .deleteFrom('prompt_logs')
    .where('prompt_sequence', '=', sequence)
    .where('line', '<=', line - maxLogLines)
    .execute()
}

export function createSqlPromptLogs({ runner, clock, dialect }: SqlContext): Pick<PromptStore, 'log' | 'logOf'> {
  return {
    log: (promptId, text) =>
      runner.run(async (trx) => {
        const row = await dialect
          .forUpdate(trx.selectFrom('prompts').select('sequence').where('prompt_id', '=', promptId))
          .executeTakeFirst()
        if (row !== undefined) await appendLog(trx, row.sequence, { at: await clock(trx), text })
      }),

    logOf: (promptId) =>
      runner.run((trx) =>
        trx
          .selectFrom('prompt_logs')
          .innerJoin('prompts', 'prompts.sequence', 'prompt_logs.prompt_sequence')
          .select(['prompt_logs.at', 'prompt_logs.text'])
          .where('prompts.prompt_id', '=', promptId)
          .orderBy('prompt_logs.line')
          .execute(),
      ),
  }
}
