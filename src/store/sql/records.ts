import type { Selectable } from 'kysely'
import type { JsonValue, RecordStore, StoredRecord } from '../store.ts'
import type { SqlContext } from './runner.ts'
import type { RecordsTable } from './schema.ts'

/** The generic collections, all in one table. */
export function createSqlRecords({ runner, clock }: SqlContext): RecordStore {
  return {
    get: (collection, id) =>
      runner.run(async (trx) => {
        const row = await trx
          .selectFrom('records')
          .selectAll()
          .where('collection', '=', collection)
          .where('id', '=', id)
          .executeTakeFirst()
        return row === undefined ? undefined : toRecord(row)
      }),

    put: (collection, record, options) =>
      runner.run(async (trx) => {
        const old = await trx
          .selectFrom('records')
          .select('version')
          .where('collection', '=', collection)
          .where('id', '=', record.id)
          .executeTakeFirst()
        const version = old?.version ?? 0
        if (options?.ifVersion !== undefined && options.ifVersion !== version) return undefined
        const content = {
          version: version + 1,
          value: JSON.stringify(record.value),
          index_key: record.index ?? null,
          due_at: record.dueAt ?? null,
        }
        if (old === undefined) {
          await trx
            .insertInto('records')
            .values({ collection, id: record.id, ...content })
            .execute()
        } else {
          const updated = await trx
            .updateTable('records')
            .set(content)
            .where('collection', '=', collection)
            .where('id', '=', record.id)
            .where('version', '=', version)
            .executeTakeFirst()
          if (updated.numUpdatedRows === 0n) return undefined
        }
        return toRecord({ collection, id: record.id, ...content })
      }),

    delete: (collection, id) =>
      runner.run(async (trx) => {
        const deleted = await trx
          .deleteFrom('records')
          .where('collection', '=', collection)
          .where('id', '=', id)
          .executeTakeFirst()
        return deleted.numDeletedRows > 0n
      }),

    list: async (collection, query) => {
      const index = query?.index
      const rows = await runner.run((trx) => {
        const all = trx.selectFrom('records').selectAll().where('collection', '=', collection)
        return (index === undefined ? all : all.where('index_key', '=', index)).execute()
      })
      // Sorted here: databases do not agree with each other on the order of all texts.
      return rows.map(toRecord).toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
    },

    due: (collection, limit) =>
      runner.run(async (trx) => {
        const rows = await trx
          .selectFrom('records')
          .selectAll()
          .where('collection', '=', collection)
          .where('due_at', '<=', await clock(trx))
          .orderBy('due_at')
          .orderBy('id')
          .limit(limit)
          .execute()
        return rows.map(toRecord)
      }),
  }
}

function toRecord(row: Selectable<RecordsTable>): StoredRecord {
  const value: JsonValue = JSON.parse(row.value)
  return { id: row.id, version: row.version, value, index: row.index_key ?? undefined, dueAt: row.due_at ?? undefined }
}
