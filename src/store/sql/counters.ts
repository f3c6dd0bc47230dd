import type { Transaction } from 'kysely'
import type { SqlDialect } from './dialect.ts'
import type { Schema } from './schema.ts'

/** `prompt`, `finish`, `file`: the next free number. `fence`: the highest fence seen. */
export const counterNames = ['prompt', 'finish', 'file', 'fence'] as const
export type CounterName = (typeof counterNames)[number]

/** Takes `count` numbers that nobody else gets and answers the first of them. Each counter starts at 0. */
export async function takeNumbers(trx: Transaction<Schema>, name: CounterName, count = 1): Promise<number> {
  // Written before it is read: the row is ours from here to the end of the transaction.
  await trx
    .updateTable('counters')
    .set((eb) => ({ value: eb('value', '+', count) }))
    .where('name', '=', name)
    .execute()
  return (await readCounter(trx, name)) - count
}

/** Raises a counter to `value`; until the verb ends nobody raises it further. False, changing nothing, when it is higher. */
export async function raiseCounter(
  trx: Transaction<Schema>,
  dialect: SqlDialect,
  { name, value }: { name: CounterName; value: number },
): Promise<boolean> {
  const row = await dialect
    .forShare(trx.selectFrom('counters').select('value').where('name', '=', name))
    .executeTakeFirstOrThrow()
  const current = row.value
  if (current === value) return true
  const raised = await trx
    .updateTable('counters')
    .set({ value })
    .where('name', '=', name)
    .where('value', '<', value)
    .executeTakeFirst()
  return raised.numUpdatedRows > 0n
}

async function readCounter(trx: Transaction<Schema>, name: CounterName): Promise<number> {
  const row = await trx.selectFrom('counters').select('value').where('name', '=', name).executeTakeFirstOrThrow()
  return row.value
}
