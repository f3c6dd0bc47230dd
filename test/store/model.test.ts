import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { createSqliteStore } from '../../src/store/sql/sqlite.ts'
import { storeModel } from '../contracts/store-model.ts'

const folder = mkdtempSync(join(tmpdir(), 'store-model-'))
let files = 0
afterAll(() => rmSync(folder, { recursive: true, force: true }))

storeModel('SQLite', (now) => createSqliteStore({ file: join(folder, `${files++}.sqlite`), sync: 'normal', now }))
