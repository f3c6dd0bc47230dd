import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { createSqliteStore } from '../../src/store/sql/sqlite.ts'
import { expectKept, writeAndKill } from '../support/kept-after-kill.ts'

const folder = mkdtempSync(join(tmpdir(), 'store-crash-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

it('has everything that was answered before a kill -9, and opens again', { timeout: 60_000 }, async () => {
  const file = join(folder, 'store.sqlite')
  const printed: string[] = []
  for (let round = 0; round < 5; round += 1) {
    printed.push(...(await writeAndKill(file, round)))
    const store = await createSqliteStore({ file, sync: 'full' })
    await expectKept(store, printed)
    await store.close()
  }
  expect(printed.length).toBeGreaterThan(5)
})
