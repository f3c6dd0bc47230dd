import { join } from 'node:path'
import { createMemoryStore } from './memory/memory.ts'
import { createSqliteStore } from './sql/sqlite.ts'
import type { SqliteSync } from './sql/sqlite-file.ts'
import type { Store } from './store.ts'

/**
 * Opens the back end that the settings name. SQLite's file is `comfyfleet.sqlite` in `dataDir`, which is created when
 * it is missing. Throws StoreOpenError with a sentence for the operator.
 */
export async function openStore(settings: {
  kind: 'sqlite' | 'memory'
  dataDir: string
  sqliteSync: SqliteSync
}): Promise<Store> {
  switch (settings.kind) {
    case 'memory':
      return createMemoryStore()
    case 'sqlite':
      return createSqliteStore({ file: join(settings.dataDir, 'comfyfleet.sqlite'), sync: settings.sqliteSync })
    default:
      return settings.kind satisfies never
  }
}
