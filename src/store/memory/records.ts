import type { JsonValue, RecordStore, StoredRecord } from '../store.ts'

interface Entry {
  id: string
  version: number
  /** JSON text, so that a value that is changed after `put` or after `get` does not change what is stored. */
  json: string
  index: string | undefined
  dueAt: number | undefined
}

/** The generic collections in maps. `now` gives milliseconds since the epoch. */
export function createMemoryRecords({ now }: { now: () => number }): RecordStore {
  const collections = new Map<string, Map<string, Entry>>()
  const entriesOf = (collection: string): Entry[] => [...(collections.get(collection)?.values() ?? [])]

  return {
    async get(collection, id) {
      const entry = collections.get(collection)?.get(id)
      return entry === undefined ? undefined : toRecord(entry)
    },
    async put(collection, record, options) {
      const entries = collections.get(collection) ?? new Map<string, Entry>()
      const version = entries.get(record.id)?.version ?? 0
      if (options?.ifVersion !== undefined && options.ifVersion !== version) return undefined
      const entry: Entry = {
        id: record.id,
        version: version + 1,
        json: JSON.stringify(record.value),
        index: record.index,
        dueAt: record.dueAt,
      }
      entries.set(record.id, entry)
      collections.set(collection, entries)
      return toRecord(entry)
    },
    async delete(collection, id) {
      return collections.get(collection)?.delete(id) ?? false
    },
    async list(collection, query) {
      const index = query?.index
      return entriesOf(collection)
        .filter((entry) => index === undefined || entry.index === index)
        .toSorted(byId)
        .map(toRecord)
    },
    async due(collection, limit) {
      const at = now()
      return entriesOf(collection)
        .filter((entry) => entry.dueAt !== undefined && entry.dueAt <= at)
        .toSorted((a, b) => (a.dueAt ?? 0) - (b.dueAt ?? 0) || byId(a, b))
        .slice(0, limit)
        .map(toRecord)
    },
  }
}

function byId(a: { id: string }, b: { id: string }): number {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0
}

function toRecord(entry: Entry): StoredRecord {
  const value: JsonValue = JSON.parse(entry.json)
  return { id: entry.id, version: entry.version, value, index: entry.index, dueAt: entry.dueAt }
}
