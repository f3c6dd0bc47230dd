import { afterAll, beforeAll, describe } from 'vitest'
import { createMysqlStore } from '../../src/store/sql/mysql.ts'
import type { MysqlSettings } from '../../src/store/sql/mysql-pool.ts'
import { storeContract } from '../contracts/store.ts'
import { storeModel } from '../contracts/store-model.ts'
import { createClock } from '../support/clock.ts'
import { type MariaDb, startMariaDb, whyNoMariaDb } from '../support/mariadb.ts'

const reason = whyNoMariaDb()

describe.skipIf(reason !== undefined)(`on a real server${reason === undefined ? '' : ` (${reason})`}`, () => {
  let server: MariaDb
  beforeAll(async () => {
    // What a power cut leaves is not looked at here, and the tests create many tables.
    server = await startMariaDb(['--innodb-flush-log-at-trx-commit=0'])
  }, 60_000)
  afterAll(() => server?.stop())

  // Emptied for each test, since making the tables takes longer than most of them.
  let settings: MysqlSettings | undefined
  const emptyDatabase = async () => {
    if (settings === undefined) settings = await server.freshDatabase()
    else await server.empty(settings)
    return settings
  }

  const openAt = async (now: () => number) => {
    const limits = { timeoutMs: 10_000, maxBodyBytes: 16_000_000 }
    return createMysqlStore({ settings: await emptyDatabase(), ...limits, clock: async () => now() })
  }

  storeContract('mysql', async () => {
    const clock = createClock()
    return { store: await openAt(clock.now), advance: clock.advance }
  })
  storeModel('MySQL', openAt, { isOrdered: false, runs: 40 })
})
