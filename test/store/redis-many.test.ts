import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import { createRedisStore } from '../../src/store/redis/redis.ts'
import type { JobQuery, PromptStatus, Store } from '../../src/store/store.ts'
import { createClock } from '../support/clock.ts'
import { describeWithRedis } from '../support/describe-with-redis.ts'
import { aFile, anOutcome, aPrompt } from '../support/prompts.ts'
import { type RedisServer, startRedis } from '../support/redis-server.ts'

/** More than one script reads at once, compared with the store in memory. */
describeWithRedis('Redis with many prompts', () => {
  let server: RedisServer
  let stores: [Store, Store]
  let clock: ReturnType<typeof createClock>
  let count = 0
  beforeAll(async () => {
    server = await startRedis({ appendfsync: 'no' })
  })
  afterAll(() => server?.stop())
  beforeEach(async () => {
    clock = createClock()
    const redis = { url: server.url, prefix: `many-${count++}`, timeoutMs: 20_000 }
    stores = [createMemoryStore({ now: clock.now }), await createRedisStore({ ...redis, now: clock.now })]
  })
  afterEach(async () => {
    for (const store of stores ?? []) await store.close()
  })

  /** Asks both, and expects one answer. */
  async function same<T>(ask: (store: Store) => Promise<T>): Promise<T> {
    const [expected, actual] = [await ask(stores[0]), await ask(stores[1])]
    expect(actual).toEqual(expected)
    return actual
  }

  async function fill(many: number): Promise<void> {
    for (let at = 0; at < many; at += 1) {
      const promptId = `p${at}`
      const prompt = aPrompt({ promptId, owner: at % 3 === 0 ? 'ann' : 'bob', caller: at % 2 === 0 ? 'k' : 'l' })
      const history = `"${promptId}"`
      const calls = stores.map(async ({ prompts }) => {
        await prompts.admit({ ...prompt, workflowId: at % 5 === 0 ? 'f' : undefined }, { idempotencyMs: 1 })
        if (at % 7 === 0) return
        const attempt = await prompts.startAttempt({ promptId, workerId: 'w', fence: 0, log: 'x' })
        if (attempt === undefined) throw new Error('not claimed')
        if (at % 2 === 0) await prompts.markRunning(attempt)
        if (at % 11 === 0) return
        const status = at % 4 === 0 ? 'failed' : 'succeeded'
        const files = [aFile({ filename: `${at % 40}.png` }), aFile({ filename: promptId })]
        await prompts.finish(attempt, anOutcome({ status, history, files }), 'done')
      })
      await Promise.all(calls)
      await clock.advance(at % 4)
    }
  }

  it('lists and pages like the store in memory', async () => {
    await fill(1_600)
    await same((store) => store.prompts.unfinished())
    const statuses: PromptStatus[][] = [
      [],
      ['succeeded'],
      ['failed', 'queued'],
      ['running', 'dispatching', 'succeeded'],
    ]
    const base: Omit<JobQuery, 'statuses' | 'sortBy' | 'descending' | 'limit' | 'offset'> = {
      owner: undefined,
      workflowId: undefined,
    }
    for (const filter of [base, { ...base, owner: 'ann' }, { owner: 'bob', workflowId: 'f' }]) {
      for (const some of statuses) {
        for (const sortBy of ['created_at', 'execution_duration'] as const) {
          for (const descending of [false, true]) {
            const query = { ...filter, statuses: some, sortBy, descending }
            for (const [limit, offset] of [
              [undefined, 0],
              [undefined, 700],
              [7, 3],
              [20, 501],
              [20, 1_300],
              [3, 1_590],
            ]) {
              await same((store) => store.prompts.list({ ...query, limit, offset: offset ?? 0 }))
            }
          }
        }
      }
    }
  }, 60_000)

  it('reads, deletes and clears a long history', async () => {
    await fill(1_600)
    const all = { owner: undefined, maxItems: undefined, offset: undefined }
    expect((await same((store) => store.prompts.history(all))).length).toBeGreaterThan(1_000)
    await same((store) => store.prompts.history({ owner: 'ann', maxItems: 600, offset: 20 }))
    const files = { owner: 'bob', type: 'output' as const }
    expect(await same((store) => store.prompts.newestFiles({ ...files, limit: 5_000 }))).not.toHaveLength(1_000)
    expect(await same((store) => store.prompts.newestFiles({ ...files, limit: 1_001 }))).toHaveLength(1_001)
    const some = Array.from({ length: 700 }, (_, at) => `p${at * 2}`)
    await same((store) => store.prompts.deleteHistory({ promptIds: some, owner: 'bob' }))
    await same((store) => store.prompts.history(all))
    await same((store) => store.prompts.clearHistory({ caller: 'l' }))
    expect((await same((store) => store.prompts.history(all))).length).toBeGreaterThan(0)
    expect(await same((store) => store.prompts.prune({ maxEntries: 150, maxAgeMs: 500 }))).toBeGreaterThan(1_000)
    await same((store) => store.prompts.unfinished())
    await same((store) => store.prompts.newestFiles({ ...files, limit: 5_000 }))
  }, 60_000)

  it('reads texts of many megabytes together', async () => {
    const ids = Array.from({ length: 8 }, (_, at) => `p${at}`)
    const text = JSON.stringify('é'.repeat(1_000_000))
    for (const promptId of ids) {
      for (const { prompts } of stores) {
        const body = { text: text + promptId, sealed: undefined }
        await prompts.admit(aPrompt({ promptId, clientId: 'c', body }), { idempotencyMs: 1 })
        await prompts.finish({ promptId, number: 0 }, anOutcome({ history: text + promptId }), 'done')
      }
    }
    const [memory, redis] = stores
    const asked = [...ids, 'unknown']
    expect((await redis.prompts.readBodies(asked)).size).toBe(8)
    const isSame = async (ask: (store: Store) => Promise<unknown>) =>
      JSON.stringify(await ask(redis)) === JSON.stringify(await ask(memory))
    expect(await isSame(async ({ prompts }) => [...(await prompts.readBodies(asked))])).toBe(true)
    const window = { owner: undefined, maxItems: 7, offset: undefined }
    expect(await isSame(({ prompts }) => prompts.history(window))).toBe(true)
  })

  it('lists and names the due of a large collection', async () => {
    for (let at = 0; at < 1_200; at += 1) {
      const record = {
        id: `r${at}`,
        value: at,
        index: at % 2 === 0 ? 'even' : undefined,
        dueAt: clock.now() - (at % 3),
      }
      for (const { records } of stores) await records.put('c', record)
    }
    expect(await same((store) => store.records.list('c'))).toHaveLength(1_200)
    expect(await same((store) => store.records.list('c', { index: 'even' }))).toHaveLength(600)
    expect(await same((store) => store.records.due('c', 550))).toHaveLength(550)
  })
})
