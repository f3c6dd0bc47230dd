import type { JsonValue, RecordStore, StoredRecord } from '../store.ts'
import type { RedisConnection } from './connection.ts'
import { optional } from './optional.ts'

type Row = [id: string, version: string, value: string, index: string | null, due: string | null]
type Rows = [found: Row[], left: string[]]

/** The generic collections, each record a hash. */
export function createRedisRecords(connection: RedisConnection): RecordStore {
  async function readAll(collection: string, [first, left]: Rows): Promise<StoredRecord[]> {
    const rows = first
    while (left.length > 0) {
      const [more, rest] = await connection.call<Rows>('read-records', collection, ...left.slice(0, 500))
      rows.push(...more)
      left = [...rest, ...left.slice(500)]
    }
    return rows.map(toRecord)
  }

  return {
    async get(collection, id) {
      const row = await connection.call<Row | null>('get-record', collection, id)
      return row === null ? undefined : toRecord(row)
    },

    async put(collection, record, options) {
      const { id, value, index, dueAt } = record
      const json = JSON.stringify(value)
      const ifVersion = options?.ifVersion ?? ''
      const due = dueAt ?? ''
      const version = await connection.call<number | null>(
        'put-record',
        collection,
        id,
        json,
        optional(index),
        due,
        ifVersion,
      )
      return version === null ? undefined : { id, version, value: JSON.parse(json), index, dueAt }
    },

    async delete(collection, id) {
      return (await connection.call<number>('delete-record', collection, id)) === 1
    },

    async list(collection, query) {
      const rows = await connection.call<Rows>('list-records', collection, optional(query?.index))
      return (await readAll(collection, rows)).toSorted(byId)
    },

    async due(collection, limit) {
      const rows = await connection.call<Rows>('due-records', collection, limit)
      const due = await readAll(collection, rows)
      return due.toSorted((a, b) => (a.dueAt ?? 0) - (b.dueAt ?? 0) || byId(a, b)).slice(0, limit)
    },
  }
}

function byId(a: { id: string }, b: { id: string }): number {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0
}

function toRecord([id, version, json, index, due]: Row): StoredRecord {
  const value: JsonValue = JSON.parse(json)
  return {
    id,
    version: Number(version),
    value,
    index: index ?? undefined,
    dueAt: due === null ? undefined : Number(due),
  }
}
