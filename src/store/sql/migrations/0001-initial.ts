import { type CreateTableBuilder, sql, type Transaction } from 'kysely'
import type { ColumnTypes } from '../column-types.ts'
import { counterNames } from '../counters.ts'
import type { Schema } from '../schema.ts'
import type { Migration } from './migrate.ts'

export const initial: Migration = {
  name: 'initial',
  async up(trx, type) {
    await trx.schema
      .createTable('prompts')
      .addColumn('sequence', type.integer, (c) => c.primaryKey())
      .addColumn('prompt_id', type.key, (c) => c.notNull().unique())
      .addColumn('upstream_id', type.name, (c) => c.notNull())
      .addColumn('gateway_job_id', type.name, (c) => c.notNull())
      .addColumn('owner', type.name, (c) => c.notNull())
      .addColumn('caller', type.name, (c) => c.notNull())
      .addColumn('client_id', type.shortText)
      .addColumn('number', type.float, (c) => c.notNull())
      .addColumn('number_given', type.flag, (c) => c.notNull())
      .addColumn('priority', type.integer, (c) => c.notNull())
      .addColumn('status', type.name, (c) => c.notNull())
      .addColumn('admitted', type.flag, (c) => c.notNull())
      .addColumn('listed', type.flag, (c) => c.notNull())
      .addColumn('attempt', type.integer, (c) => c.notNull())
      .addColumn('sent_attempts', type.integer, (c) => c.notNull())
      .addColumn('worker_deaths', type.integer, (c) => c.notNull())
      .addColumn('worker_id', type.name)
      .addColumn('body_hash', type.name, (c) => c.notNull())
      .addColumn('workflow_id', type.shortText)
      .addColumn('created_at', type.integer, (c) => c.notNull())
      .addColumn('started_at', type.integer)
      .addColumn('finished_at', type.integer)
      .addColumn('duration', type.integer, (c) => c.notNull())
      .addColumn('finish_order', type.integer)
      .addColumn('told', type.flag, (c) => c.notNull())
      .addColumn('reason', type.shortText)
      .addColumn('traits', type.longText, (c) => c.notNull())
      .addColumn('summary', type.longText)
      .modifyEnd(type.tableEnd)
      .execute()
    await trx.schema
      .createTable('prompt_bodies')
      .addColumn('prompt_sequence', type.integer, (c) => c.primaryKey())
      .$call((table) => withPrompt(table, 'prompt_bodies_fk'))
      .addColumn('sealed', type.longText)
      .addColumn('text', type.longText, (c) => c.notNull())
      .modifyEnd(type.tableEnd)
      .execute()
    await trx.schema
      .createTable('prompt_history')
      .addColumn('prompt_sequence', type.integer, (c) => c.primaryKey())
      .$call((table) => withPrompt(table, 'prompt_history_fk'))
      .addColumn('prompt_id', type.key, (c) => c.notNull())
      .addColumn('owner', type.name, (c) => c.notNull())
      .addColumn('caller', type.name, (c) => c.notNull())
      .addColumn('visible', type.flag, (c) => c.notNull())
      .addColumn('finish_order', type.integer, (c) => c.notNull())
      .addColumn('text', type.longText, (c) => c.notNull())
      .modifyEnd(type.tableEnd)
      .execute()
    await trx.schema
      .createTable('prompt_logs')
      .addColumn('prompt_sequence', type.integer, (c) => c.notNull())
      .addColumn('line', type.integer, (c) => c.notNull())
      .addColumn('at', type.integer, (c) => c.notNull())
      .addColumn('text', type.longText, (c) => c.notNull())
      .addPrimaryKeyConstraint('prompt_logs_pk', ['prompt_sequence', 'line'])
      .$call((table) => withPrompt(table, 'prompt_logs_fk'))
      .modifyEnd(type.tableEnd)
      .execute()
    // No foreign key: the files of a replaced prompt stay, as they stay on the worker.
    await trx.schema
      .createTable('prompt_files')
      .addColumn('sequence', type.integer, (c) => c.primaryKey())
      .addColumn('prompt_id', type.key, (c) => c.notNull())
      .addColumn('owner', type.name, (c) => c.notNull())
      .addColumn('worker_id', type.name, (c) => c.notNull())
      .addColumn('token', type.name, (c) => c.notNull())
      .addColumn('type', type.name, (c) => c.notNull())
      .addColumn('subfolder', type.shortText, (c) => c.notNull())
      .addColumn('filename', type.shortText, (c) => c.notNull())
      .addColumn('filename_key', type.key, (c) => c.notNull())
      .modifyEnd(type.tableEnd)
      .execute()
    await trx.schema
      .createTable('records')
      .addColumn('collection', type.name, (c) => c.notNull())
      .addColumn('id', type.key, (c) => c.notNull())
      .addColumn('version', type.integer, (c) => c.notNull())
      .addColumn('index_key', type.shortText)
      .addColumn('due_at', type.integer)
      .addColumn('value', type.longText, (c) => c.notNull())
      .addPrimaryKeyConstraint('records_pk', ['collection', 'id'])
      .modifyEnd(type.tableEnd)
      .execute()
    await trx.schema
      .createTable('leases')
      .addColumn('name', type.name, (c) => c.primaryKey())
      .addColumn('holder', type.name, (c) => c.notNull())
      .addColumn('fence', type.integer, (c) => c.notNull())
      .addColumn('expires_at', type.integer, (c) => c.notNull())
      .modifyEnd(type.tableEnd)
      .execute()
    await trx.schema
      .createTable('counters')
      .addColumn('name', type.name, (c) => c.primaryKey())
      .addColumn('value', type.integer, (c) => c.notNull())
      .modifyEnd(type.tableEnd)
      .execute()
    await trx
      .insertInto('counters')
      .values(counterNames.map((name) => ({ name, value: 0 })))
      .execute()
    await createIndexes(trx, type)
  },
}

/** What belongs to a prompt goes with it. Said of the table: MySQL takes no notice of it beside a column. */
function withPrompt<C extends string>(table: CreateTableBuilder<string, C>, name: string) {
  return table.addForeignKeyConstraint(name, ['prompt_sequence' as C], 'prompts', ['sequence'], (key) =>
    key.onDelete('cascade'),
  )
}

/** One for each way of reading that must not look at every prompt; the columns with `=` come first, then the order. */
async function createIndexes(trx: Transaction<Schema>, type: ColumnTypes): Promise<void> {
  const indexes: [table: keyof Schema, name: string, columns: string[]][] = [
    ['prompts', 'prompts_gateway_job', ['gateway_job_id']],
    ['prompts', 'prompts_by_creation', ['admitted', 'status', 'listed', 'created_at']],
    ['prompts', 'prompts_by_duration', ['admitted', 'status', 'listed', 'duration']],
    ['prompts', 'prompts_of_owner_by_creation', ['owner', 'admitted', 'status', 'listed', 'created_at']],
    ['prompts', 'prompts_of_owner_by_duration', ['owner', 'admitted', 'status', 'listed', 'duration']],
    ['prompts', 'prompts_of_workflow', ['workflow_id', 'admitted', 'status', 'listed', 'owner', 'created_at']],
    ['prompts', 'prompts_by_finish', ['finish_order']],
    ['prompts', 'prompts_by_age', ['finished_at']],
    ['prompts', 'prompts_untold', ['told', 'finished_at']],
    ['prompt_history', 'history_by_finish', ['visible', 'finish_order']],
    ['prompt_history', 'history_of_owner', ['owner', 'visible', 'finish_order']],
    ['prompt_history', 'history_of_caller', ['caller']],
    ['prompt_files', 'files_by_name', ['filename_key', 'type', 'sequence']],
    ['prompt_files', 'files_newest', ['owner', 'type', 'sequence']],
    ['prompt_files', 'files_of_owner', ['filename_key', 'type', 'owner', 'sequence']],
    ['prompt_files', 'files_of_token', ['filename_key', 'type', 'token', 'sequence']],
    ['prompt_files', 'files_of_worker', ['filename_key', 'type', 'worker_id', 'sequence']],
    ['prompt_files', 'files_of_prompt', ['prompt_id', 'filename_key', 'type', 'owner', 'sequence']],
    ['records', 'records_by_index', ['collection', 'index_key']],
    ['records', 'records_due', ['collection', 'due_at', 'id']],
  ]
  const longColumns = new Set(['workflow_id', 'index_key'])
  for (const [table, name, columns] of indexes) {
    const parts = columns.map((column) => (longColumns.has(column) ? type.beginningOf(column) : sql.ref(column)))
    await trx.schema
      .createIndex(name)
      .on(table)
      .$call((index) => parts.reduce((some, part) => some.expression(part), index))
      .execute()
  }
}
