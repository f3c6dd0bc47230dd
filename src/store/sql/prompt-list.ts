import type { Transaction } from 'kysely'
import { unfinishedStatuses } from '../admission.ts'
import type { JobQuery, PromptRecord, PromptStatus, PromptStore } from '../store.ts'
import { chunks } from './chunks.ts'
import type { SqlDialect } from './dialect.ts'
import { type PromptRow, toPromptRecord } from './prompt-rows.ts'
import type { SqlContext } from './runner.ts'
import type { Schema } from './schema.ts'

const allStatuses = [...unfinishedStatuses, 'succeeded', 'failed', 'cancelled'] as const

/** The verbs that answer many prompts. None of them reads a body. */
export function createSqlPromptLists({
  runner,
  clock,
  dialect,
}: SqlContext): Pick<PromptStore, 'unfinished' | 'list' | 'untold'> {
  return {
    unfinished: async () => {
      const rows = await runner.run((trx) =>
        trx
          .selectFrom('prompts')
          .selectAll()
          .where('admitted', 'in', [0, 1])
          .where('status', 'in', unfinishedStatuses)
          .execute(),
      )
      // Sorted here: asked for the order, a database may walk through all that ever ended.
      return rows.toSorted((a, b) => a.sequence - b.sequence).map(toPromptRecord)
    },

    list: (query) =>
      runner.read(async (trx) => {
        const counts = await countByStatus(trx, query)
        const total = counts.reduce((sum, { count }) => sum + count, 0)
        const page = await readPage(
          trx,
          dialect,
          query,
          counts.filter(({ count }) => count > 0).map(({ status }) => status),
        )
        return { prompts: page, total }
      }),

    untold: async (withinMs) => {
      const rows = await runner.run(async (trx) =>
        trx
          .selectFrom('prompts')
          .selectAll('prompts')
          .where('told', '=', 0)
          .where('finished_at', '>', (await clock(trx)) - withinMs)
          .where('client_id', 'is not', null)
          .where('sequence', 'in', (eb) =>
            eb
              .selectFrom('prompt_history')
              .select('prompt_sequence')
              .whereRef('prompt_history.prompt_sequence', '=', 'prompts.sequence'),
          )
          .execute(),
      )
      return rows.toSorted((a, b) => (a.finish_order ?? 0) - (b.finish_order ?? 0)).map(toPromptRecord)
    },
  }
}

function listed(trx: Transaction<Schema>, query: JobQuery, status: PromptStatus) {
  const { owner, workflowId } = query
  return trx
    .selectFrom('prompts')
    .where('admitted', '=', 1)
    .where('status', '=', status)
    .where('listed', '=', 1)
    .$if(owner !== undefined, (some) => some.where('owner', '=', owner ?? ''))
    .$if(workflowId !== undefined, (some) => some.where('workflow_id', '=', workflowId ?? ''))
}

async function countByStatus(trx: Transaction<Schema>, query: JobQuery) {
  const counts: { status: PromptStatus; count: number }[] = []
  for (const status of new Set(query.statuses.length === 0 ? allStatuses : query.statuses)) {
    const row = await listed(trx, query, status)
      .select((eb) => eb.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow()
    counts.push({ status, count: row.count })
  }
  return counts
}

/**
 * One part for each status, since only then an index gives the order. The database merges them; one that sorts them
 * instead gets of each no more than can be on the page.
 */
async function readPage(
  trx: Transaction<Schema>,
  dialect: SqlDialect,
  query: JobQuery,
  [first, ...others]: readonly PromptStatus[],
): Promise<PromptRecord[]> {
  if (first === undefined || query.limit === 0) return []
  const column = query.sortBy === 'created_at' ? 'created_at' : 'duration'
  const direction = query.descending ? 'desc' : 'asc'
  const end = query.limit === undefined ? undefined : query.offset + query.limit
  const keysOf = (status: PromptStatus) => {
    const keys = listed(trx, query, status).select(['sequence', `${column} as value`])
    if (dialect.mergesUnions || end === undefined) return keys
    const first = keys.orderBy(column, direction).orderBy('sequence', direction).limit(end)
    // The same two columns; the type also names the table they come from, which nothing below asks for.
    return trx.selectFrom(first.as('part')).select(['sequence', 'value']) as unknown as typeof keys
  }
  const keys = await others
    .reduce((parts, status) => parts.unionAll(keysOf(status)), keysOf(first))
    .orderBy('value', direction)
    .orderBy('sequence', direction)
    .limit(query.limit ?? Number.MAX_SAFE_INTEGER)
    .offset(query.offset)
    .execute()
  return readAll(
    trx,
    keys.map((key) => key.sequence),
  )
}

/** The prompts with these sequences, in this order. */
async function readAll(trx: Transaction<Schema>, sequences: readonly number[]): Promise<PromptRecord[]> {
  const rows = new Map<number, PromptRow>()
  for (const some of chunks(sequences)) {
    for (const row of await trx.selectFrom('prompts').selectAll().where('sequence', 'in', some).execute()) {
      rows.set(row.sequence, row)
    }
  }
  return sequences.flatMap((sequence) => {
    const row = rows.get(sequence)
    return row === undefined ? [] : [toPromptRecord(row)]
  })
}
