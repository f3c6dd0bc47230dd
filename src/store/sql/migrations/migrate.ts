import type { Transaction } from 'kysely'
import { StoreOpenError } from '../../open-error.ts'
import type { ColumnTypes } from '../column-types.ts'
import type { SqlContext } from '../runner.ts'
import type { Schema } from '../schema.ts'
import { initial } from './0001-initial.ts'

/** One step of the schema. Its number is its place in the list; a step that was released is never changed. */
export interface Migration {
  name: string
  /** Its statements must not depend on what it reads: for MySQL they are listed first and sent one by one. */
  up(trx: Transaction<Schema>, type: ColumnTypes): Promise<void>
}

export const migrations: readonly Migration[] = [initial]

/**
 * Brings the schema up to this version, one transaction a step, and notes each in `schema_versions`. Throws
 * StoreOpenError when the schema is newer than this program.
 */
export async function migrate({ runner, clock }: SqlContext, type: ColumnTypes): Promise<void> {
  await runner.run((trx) => createVersionsTable(trx, type))
  const done = await runner.run(async (trx) => {
    const row = await trx
      .selectFrom('schema_versions')
      .select((eb) => eb.fn.max('version').as('version'))
      .executeTakeFirst()
    return row?.version ?? 0
  })
  refuseNewer(done)
  for (const [at, step] of migrations.entries()) {
    const version = at + 1
    if (version <= done) continue
    await runner.run(async (trx) => {
      await step.up(trx, type)
      const applied_at = await clock(trx)
      await trx.insertInto('schema_versions').values({ version, name: step.name, applied_at }).execute()
    })
  }
}

/** The table that says which steps were taken, unless it is there. */
export async function createVersionsTable(trx: Transaction<Schema>, type: ColumnTypes): Promise<void> {
  await trx.schema
    .createTable('schema_versions')
    .ifNotExists()
    .addColumn('version', type.integer, (c) => c.primaryKey())
    .addColumn('name', type.name, (c) => c.notNull())
    .addColumn('applied_at', type.integer, (c) => c.notNull())
    .modifyEnd(type.tableEnd)
    .execute()
}

/** Throws StoreOpenError when the tables are newer than this program. */
export function refuseNewer(version: number): void {
  if (version <= migrations.length) return
  throw new StoreOpenError(
    `The store was written by a newer ComfyFleet (schema ${version}, this one knows ${migrations.length}): start that version, or restore an older copy`,
  )
}
