import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import { StoreOpenError } from '../../src/store/open-error.ts'
import { SoleUse } from '../../src/store/sole-use.ts'

const options = (holder: string, given: Partial<Parameters<typeof SoleUse.take>[0]> = {}) => ({
  leases: createMemoryStore().leases,
  holder,
  ttlMs: 200,
  renewMs: 20,
  onLost: () => undefined,
  log: pino({ level: 'silent' }),
  ...given,
})

describe('the one gateway of a store', () => {
  it('keeps a second one out for as long as it renews its lease', async () => {
    const { leases } = createMemoryStore()
    const first = await SoleUse.take(options('a', { leases }))
    await expect(SoleUse.take(options('b', { leases }))).rejects.toThrow(StoreOpenError)
    await first.release()
    const second = await SoleUse.take(options('b', { leases }))
    expect(second.fence).toBeGreaterThan(first.fence)
    await second.release()
  })

  it('follows one that was killed as soon as its lease has run out', async () => {
    const { leases } = createMemoryStore()
    await leases.acquire({ name: 'leader', holder: 'killed', ttlMs: 200 })
    const next = await SoleUse.take(options('b', { leases }))
    await next.release()
  })

  it('hears of it when another has taken over', async () => {
    const { leases } = createMemoryStore()
    const lost = new Promise<void>((resolve) => {
      void SoleUse.take(options('a', { leases, onLost: resolve })).then(async () => {
        await leases.release({ name: 'leader', holder: 'a' })
        await leases.acquire({ name: 'leader', holder: 'b', ttlMs: 60_000 })
      })
    })
    await lost
  })
})
