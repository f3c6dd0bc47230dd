import { rmSync } from 'node:fs'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { StoreUnavailableError } from '../../src/errors.ts'
import { StoreOpenError } from '../../src/store/open-error.ts'
import { createRedisStore } from '../../src/store/redis/redis.ts'
import type { Store } from '../../src/store/store.ts'
import { describeWithRedis } from '../support/describe-with-redis.ts'
import { aFile, anOutcome, aPrompt } from '../support/prompts.ts'
import { type RedisServer, startRedis } from '../support/redis-server.ts'
import { startTlsFront } from '../support/tls-front.ts'

const window = { idempotencyMs: 600_000 }
const log = { info: vi.fn(), warn: vi.fn() }
const warnings = () => log.warn.mock.calls.map((call) => call.find((part) => typeof part === 'string'))

describeWithRedis('Redis in trouble', () => {
  const closers: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close()
    log.info.mockClear()
    log.warn.mockClear()
  })

  async function serve(settings: Readonly<Record<string, string>> = {}): Promise<RedisServer> {
    const server = await startRedis(settings)
    closers.push(() => server.stop())
    return server
  }

  async function open(url: string, options: { timeoutMs?: number; historyMs?: number } = {}): Promise<Store> {
    const store = await createRedisStore({ url, prefix: 'fleet', timeoutMs: 1_000, log, ...options })
    closers.push(() => store.close())
    return store
  }

  /** A client beside the store, to look and to break things. */
  function admin(server: RedisServer, db = 0): Redis {
    const client = new Redis({ port: server.port, db })
    closers.push(async () => client.disconnect())
    return client
  }

  const admit = (store: Store, promptId: string) => store.prompts.admit(aPrompt({ promptId }), window)
  const refused = (call: Promise<unknown>) => expect(call).rejects.toBeInstanceOf(StoreUnavailableError)

  /** Until the call works again; the time it took in milliseconds. */
  async function untilItWorks(call: () => Promise<unknown>): Promise<number> {
    const began = performance.now()
    for (;;) {
      try {
        await call()
        return performance.now() - began
      } catch (error) {
        expect(error).toBeInstanceOf(StoreUnavailableError)
        if (performance.now() - began > 10_000) throw error
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  }

  describe('that cannot be opened', () => {
    it('is unavailable while nobody listens', async () => {
      const server = await serve()
      await server.kill()
      await refused(open(server.url))
      await server.start()
      expect((await admit(await open(server.url), 'a')).kind).toBe('admitted')
    })

    it('is unavailable while it does not answer', async () => {
      const server = await serve()
      process.kill(server.pid, 'SIGSTOP')
      await refused(open(server.url, { timeoutMs: 200 }))
      process.kill(server.pid, 'SIGCONT')
      await open(server.url)
    })

    it('says that it refuses a password or a database, never which password', async () => {
      const server = await serve({ requirepass: 'right' })
      for (const [credentials, path] of [
        ['', ''],
        [':hunter2@', ''],
        ['someone:hunter2@', ''],
        [':right@', '/99'],
      ]) {
        const opening = open(`redis://${credentials}127.0.0.1:${server.port}${path}`)
        const error: Error = await opening.then(
          () => new Error('it was opened'),
          (reason) => reason,
        )
        expect(error).toBeInstanceOf(StoreOpenError)
        expect(error.message).toMatch(/^Redis refuses the connection: /)
        expect(error.message).not.toContain('hunter2')
      }
      await open(`redis://:right@127.0.0.1:${server.port}`)
    })

    it('is refused with an eviction policy', async () => {
      const server = await serve({ 'maxmemory-policy': 'allkeys-lru' })
      await expect(open(server.url)).rejects.toThrow(/maxmemory-policy allkeys-lru.*set maxmemory-policy noeviction/)
      await expect(open(server.url)).rejects.toBeInstanceOf(StoreOpenError)
    })
  })

  describe('that is less than it should be', () => {
    it('is used without a word when it fsyncs every write', async () => {
      await open((await serve()).url)
      expect(warnings()).toEqual([])
    })

    it('is warned of without an append-only file, or with one that lags', async () => {
      await open((await serve({ appendonly: 'no' })).url)
      await open((await serve({ appendfsync: 'everysec' })).url)
      expect(warnings()).toEqual([
        expect.stringContaining('set appendonly yes'),
        expect.stringContaining('appendfsync always'),
      ])
    })

    it('is used by an account that may only use its own keys, without dangerous commands', async () => {
      const server = await serve()
      await admin(server).call('ACL', 'SETUSER', 'fleet', 'on', '>p@ss', '~{fleet}:*', '+@all', '-@dangerous')
      const store = await open(`redis://fleet:p%40ss@127.0.0.1:${server.port}/3`)
      expect(warnings()).toEqual([
        expect.stringContaining('version'),
        expect.stringContaining('eviction policy'),
        expect.stringContaining('append-only file'),
      ])
      await admit(store, 'a')
      await store.prompts.finish({ promptId: 'a', number: 0 }, anOutcome({ files: [aFile()] }), 'done')
      await store.records.put('c', { id: 'r', value: 1, index: 'i', dueAt: 1 })
      await store.leases.acquire({ name: 'l', holder: 'h', ttlMs: 1 })
      const keys = await admin(server, 3).keys('*')
      expect(keys.length).toBeGreaterThan(10)
      expect(keys.filter((key) => !key.startsWith('{fleet}:'))).toEqual([])
    })
  })

  it('speaks TLS, and does not accept a certificate that nobody vouches for', async () => {
    const server = await serve()
    const front = await startTlsFront(server.port)
    closers.push(front.close)
    const url = front.url.replace('https:', 'rediss:')
    await refused(open(url))
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
    const store = await open(url)
    vi.unstubAllEnvs()
    expect((await admit(store, 'a')).kind).toBe('admitted')
  })

  it('has the clock of its server, whatever the gateway thinks', async () => {
    const server = await serve()
    const store = await open(server.url)
    const [seconds] = await admin(server).time()
    vi.spyOn(Date, 'now').mockReturnValue(Number(seconds) * 1_000 + 7_200_000)
    const { prompt } = await admit(store, 'a')
    vi.restoreAllMocks()
    expect(Math.abs(prompt.createdAt - Number(seconds) * 1_000)).toBeLessThan(60_000)
  })

  it('answers several gateways as one', async () => {
    const server = await serve()
    const gateways = [await open(server.url), await open(server.url), await open(server.url)]
    const ids = Array.from({ length: 50 }, (_, at) => `p${at}`)
    const answers = await Promise.all(ids.flatMap((id) => gateways.map((store) => admit(store, id))))
    expect(answers.filter((answer) => answer.kind === 'admitted')).toHaveLength(50)
    expect(new Set(answers.map(({ prompt }) => prompt.sequence)).size).toBe(50)
    const claims = await Promise.all(
      ids.flatMap((promptId) =>
        gateways.map((store, at) => store.prompts.startAttempt({ promptId, workerId: `w${at}`, fence: 1, log: 'x' })),
      ),
    )
    expect(claims.filter((claim) => claim !== undefined)).toHaveLength(50)
  })

  describe('while it is used', () => {
    let server: RedisServer
    let store: Store
    beforeAll(async () => {
      server = await startRedis()
    })
    afterAll(() => server?.stop())

    async function fresh(timeoutMs = 500): Promise<void> {
      await admin(server).flushall()
      store = await open(server.url, { timeoutMs })
    }

    it('fails at once while it is away, is back by itself, and has what it acknowledged', async () => {
      await fresh()
      await admit(store, 'a')
      await server.kill()
      await refused(admit(store, 'b'))
      const began = performance.now()
      await refused(store.prompts.get('a'))
      expect(performance.now() - began).toBeLessThan(400)
      await server.start()
      expect(await untilItWorks(() => admit(store, 'c'))).toBeLessThan(5_000)
      expect((await store.prompts.unfinished()).map(({ promptId }) => promptId)).toEqual(['a', 'c'])
      expect(warnings()).toEqual(['no connection to Redis'])
      expect(log.info).toHaveBeenCalledWith('connected to Redis again')
    })

    it('fails within its time while the server hangs, and is back by itself', async () => {
      await fresh(300)
      process.kill(server.pid, 'SIGSTOP')
      closers.push(async () => process.kill(server.pid, 'SIGCONT'))
      const began = performance.now()
      await Promise.all([refused(admit(store, 'a')), refused(store.prompts.unfinished())])
      expect(performance.now() - began).toBeLessThan(2_000)
      // A connection that says nothing is given up.
      await vi.waitFor(() => expect(warnings()).toEqual(['no connection to Redis']), 5_000)
      await refused(store.prompts.get('a'))
      process.kill(server.pid, 'SIGCONT')
      expect(await untilItWorks(() => store.prompts.get('a'))).toBeLessThan(5_000)
    })

    it('fails while the server is a read-only replica, also after a new connection', async () => {
      await fresh()
      const other = await serve()
      await admit(store, 'a')
      await admin(server).replicaof('127.0.0.1', other.port)
      await refused(admit(store, 'b'))
      await refused(admit(store, 'b'))
      await admin(server).replicaof('NO', 'ONE')
      expect(await untilItWorks(() => admit(store, 'b'))).toBeLessThan(5_000)
    })

    it('keeps nothing of a verb that its memory has no room for', async () => {
      await fresh()
      await admit(store, 'a')
      const before = await admin(server).dbsize()
      await admin(server).config('SET', 'maxmemory', '1')
      await refused(admit(store, 'b'))
      const files = Array.from({ length: 5 }, (_, at) => aFile({ filename: `${at}` }))
      await refused(store.prompts.finish({ promptId: 'a', number: 0 }, anOutcome({ files }), 'done'))
      await admin(server).config('SET', 'maxmemory', '0')
      expect(await admin(server).dbsize()).toBe(before)
      expect(await store.prompts.get('a')).toMatchObject({ status: 'queued', finishedAt: undefined })
      expect((await admit(store, 'b')).prompt.sequence).toBe(1)
    })

    it('survives that its scripts or its data are flushed', async () => {
      await fresh()
      await admit(store, 'a')
      await admin(server).script('FLUSH')
      expect(await store.prompts.get('a')).toBeDefined()
      await admin(server).flushall()
      expect(await store.prompts.finish({ promptId: 'a', number: 0 }, anOutcome(), 'done')).toBeUndefined()
      expect(await store.prompts.unfinished()).toEqual([])
      expect((await admit(store, 'a')).kind).toBe('admitted')
    })

    it('names neither prompts nor keys when a call fails', async () => {
      await fresh()
      await admin(server).set('{fleet}:ids', 'not a hash')
      const body = { text: 'hunter2', sealed: 'hunter2' }
      const error: Error = await store.prompts.admit(aPrompt({ promptId: 'a', body }), window).then(
        () => new Error('admitted'),
        (reason) => reason,
      )
      expect(error).toBeInstanceOf(StoreUnavailableError)
      expect(String(error.cause)).toContain('WRONGTYPE')
      const everything = (value: unknown): string =>
        JSON.stringify(value, (_, part) =>
          part instanceof Error ? { ...part, text: part.stack, why: part.cause } : part,
        )
      expect(everything(error)).not.toContain('hunter2')
    })
  })

  it('fails while the server cannot write to its disk', async () => {
    const server = await serve({ appendonly: 'no', save: '3600 1' })
    const store = await open(server.url)
    const client = admin(server)
    const [, folder = ''] = (await client.config('GET', 'dir')) as string[]
    rmSync(folder, { recursive: true })
    await client.bgsave()
    await vi.waitFor(
      async () => expect(await client.info('persistence')).toContain('rdb_last_bgsave_status:err'),
      5_000,
    )
    await refused(admit(store, 'a'))
    expect(await store.prompts.get('a')).toBeUndefined()
    await client.config('SET', 'stop-writes-on-bgsave-error', 'no')
    expect((await admit(store, 'a')).prompt.sequence).toBe(0)
  })

  it('fails while the server loads its data, and is back when it has', async () => {
    const server = await serve({ 'key-load-delay': '2000' })
    const store = await open(server.url)
    const client = admin(server)
    await client.mset(Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`key ${at}`, 'x'])))
    await client.bgrewriteaof()
    await vi.waitFor(async () => expect(await client.info('persistence')).toContain('aof_rewrite_in_progress:0'))
    await server.kill()
    const began = performance.now()
    const restarted = server.start()
    let calls = 0
    const working = untilItWorks(() => {
      calls += 1
      return admit(store, 'a')
    })
    await restarted
    expect(performance.now() - began).toBeGreaterThan(800)
    expect(calls).toBeGreaterThan(10)
    expect(await working).toBeLessThan(5_000)
  })

  it('lets the texts of what ended expire when no gateway prunes, and nothing else', async () => {
    const server = await serve()
    const store = await open(server.url, { historyMs: 60_000 })
    await admit(store, 'waiting')
    await admit(store, 'ended')
    await store.prompts.log('ended', 'a line')
    await store.prompts.finish({ promptId: 'ended', number: 0 }, anOutcome(), 'done')
    const client = admin(server)
    const expiring: string[] = []
    for (const key of await client.keys('*')) {
      const ttl = await client.pttl(key)
      if (ttl === -1) continue
      expiring.push(key)
      expect(ttl).toBeGreaterThan(60_000)
    }
    const place = '00000000000001'
    expect(expiring.sort()).toEqual(['body', 'entry', 'log'].map((kind) => `{fleet}:${kind}:${place}`))
    await client.del(expiring)
    expect(await store.prompts.historyEntry('ended')).toBeUndefined()
    expect(await store.prompts.history({ owner: undefined, maxItems: undefined, offset: undefined })).toEqual([])
    expect(await store.prompts.prune({ maxEntries: 0, maxAgeMs: undefined })).toBe(1)
  })

  it('keeps no key of what it forgot', async () => {
    const server = await serve()
    const store = await open(server.url)
    for (const promptId of ['a', 'b', 'c', 'd']) {
      const traits = { promptId, clientId: 'c', workflowId: 'f', admitted: promptId !== 'd' }
      await store.prompts.admit(aPrompt({ ...traits, body: { text: '{}', sealed: 's' } }), { idempotencyMs: 0 })
      await store.prompts.startAttempt({ promptId, workerId: 'w', fence: 0, log: 'claimed' })
      if (promptId !== 'c') await store.prompts.finish({ promptId, number: 1 }, anOutcome({ files: [aFile()] }), 'done')
    }
    await store.prompts.admit(aPrompt({ promptId: 'a' }), { idempotencyMs: 0 })
    await store.prompts.cancelQueued('a', 'cancelled')
    await store.prompts.finish({ promptId: 'c', number: 1 }, anOutcome({ history: undefined }), 'done')
    await store.prompts.deleteHistory({ promptIds: ['b'], owner: undefined })
    await store.records.put('c', { id: 'r', value: 1, index: 'i', dueAt: 1 })
    await store.records.delete('c', 'r')
    await store.leases.acquire({ name: 'l', holder: 'h', ttlMs: 1 })
    await store.leases.release({ name: 'l', holder: 'h' })
    expect(await store.prompts.prune({ maxEntries: 0, maxAgeMs: undefined })).toBe(4)
    expect(await admin(server).keys('*')).toEqual(['{fleet}:counters'])
  })
})
