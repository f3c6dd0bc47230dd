import type { Transaction } from 'kysely'
import type { PromptStore } from '../store.ts'
import type { SqlDialect } from './dialect.ts'
import type { SqlContext } from './runner.ts'
import type { Schema } from './schema.ts'

/** Prompts forgotten in one transaction: few enough that submits between two of them do not notice. */
const stepSize = 200

/** Pruning goes in steps, each atomic; what ends while it runs is looked at the next time. */
export function createSqlPruning({ runner, clock, dialect }: SqlContext): Pick<PromptStore, 'prune'> {
  return {
    prune: async ({ maxEntries, maxAgeMs }) => {
      const { surplus, before } = await runner.run(async (trx) => ({
        surplus: maxEntries === undefined ? undefined : await newestSurplus(trx, maxEntries),
        before: maxAgeMs === undefined ? undefined : (await clock(trx)) - maxAgeMs,
      }))
      let forgotten = 0
      while (surplus !== undefined) {
        const step = await runner.run((trx) =>
          forgetWhere(trx, dialect, { column: 'finish_order', below: surplus + 1 }),
        )
        forgotten += step
        if (step < stepSize) break
      }
      while (before !== undefined) {
        const step = await runner.run((trx) => forgetWhere(trx, dialect, { column: 'finished_at', below: before }))
        forgotten += step
        if (step < stepSize) break
      }
      return forgotten
    },
  }
}

/** Place in the order of finishing of the newest prompt that is one too many. */
async function newestSurplus(trx: Transaction<Schema>, maxEntries: number): Promise<number | undefined> {
  const row = await trx
    .selectFrom('prompts')
    .select('finish_order')
    .where('finish_order', 'is not', null)
    .orderBy('finish_order', 'desc')
    .limit(1)
    .offset(maxEntries)
    .executeTakeFirst()
  return row?.finish_order ?? undefined
}

async function forgetWhere(
  trx: Transaction<Schema>,
  dialect: SqlDialect,
  { column, below }: { column: 'finish_order' | 'finished_at'; below: number },
): Promise<number> {
  const rows = await dialect
    .forUpdate(
      trx
        .selectFrom('prompts')
        .select(['sequence', 'prompt_id'])
        .where(column, '<', below)
        .orderBy(column)
        .limit(stepSize),
    )
    .execute()
  if (rows.length === 0) return 0
  const ids = rows.map((row) => row.prompt_id)
  const sequences = rows.map((row) => row.sequence)
  await trx.deleteFrom('prompt_files').where('prompt_id', 'in', ids).execute()
  // Body, history entry and log go with the prompt.
  await trx.deleteFrom('prompts').where('sequence', 'in', sequences).execute()
  return rows.length
}
