import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createMysqlStore } from '../../src/store/sql/mysql.ts'
import { expectKept, writeAndKill } from '../support/kept-after-kill.ts'
import { type MariaDb, startMariaDb, whyNoMariaDb } from '../support/mariadb.ts'

const reason = whyNoMariaDb()

describe.skipIf(reason !== undefined)(`killed with MySQL${reason === undefined ? '' : ` (${reason})`}`, () => {
  let server: MariaDb
  beforeAll(async () => {
    server = await startMariaDb()
  }, 60_000)
  afterAll(() => server?.stop())

  it('has everything that was answered, whether the gateway dies or the server', { timeout: 120_000 }, async () => {
    const settings = await server.freshDatabase()
    const printed: string[] = []
    for (let round = 0; round < 4; round += 1) {
      printed.push(...(await writeAndKill(JSON.stringify(settings), round)))
      if (round % 2 === 1) {
        await server.kill()
        await server.start()
      }
      // At once: what the dead gateway had begun is still held for a moment.
      const store = await createMysqlStore({ settings, timeoutMs: 10_000, maxBodyBytes: 1 })
      expect((await store.records.put('c', { id: `${round}`, value: null }))?.version).toBe(1)
      await expectKept(store, printed)
      await store.close()
    }
    expect(printed.length).toBeGreaterThan(5)
  })
})
