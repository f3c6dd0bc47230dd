import type { LeaseStore } from '../store.ts'
import { takeNumbers } from './counters.ts'
import type { SqlContext } from './runner.ts'

/** Leases in a table, their fences from the counter that claims are checked against. */
export function createSqlLeases({ runner, clock, dialect }: SqlContext): LeaseStore {
  return {
    acquire: ({ name, holder, ttlMs }) =>
      runner.run(async (trx) => {
        const current = await dialect
          .forUpdate(trx.selectFrom('leases').selectAll().where('name', '=', name))
          .executeTakeFirst()
        const now = await clock(trx)
        if (current !== undefined && current.holder !== holder && current.expires_at > now) return undefined
        const expires_at = now + ttlMs
        if (current?.holder === holder) {
          await trx.updateTable('leases').set({ expires_at }).where('name', '=', name).execute()
          return { fence: current.fence, holder }
        }
        const fence = (await takeNumbers(trx, 'fence')) + 1
        if (current !== undefined) await trx.deleteFrom('leases').where('name', '=', name).execute()
        await trx.insertInto('leases').values({ name, holder, fence, expires_at }).execute()
        return { fence, holder }
      }),

    release: ({ name, holder }) =>
      runner.run(async (trx) => {
        await trx.deleteFrom('leases').where('name', '=', name).where('holder', '=', holder).execute()
      }),
  }
}
