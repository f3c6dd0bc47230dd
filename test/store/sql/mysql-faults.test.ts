import { inspect } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { BodyTooLargeError, NameTooLongError, StoreUnavailableError } from '../../../src/errors.ts'
import { openStore } from '../../../src/store/open.ts'
import { StoreOpenError } from '../../../src/store/open-error.ts'
import { createMysqlStore, type MysqlOptions } from '../../../src/store/sql/mysql.ts'
import type { MysqlSettings } from '../../../src/store/sql/mysql-pool.ts'
import type { Store } from '../../../src/store/store.ts'
import { createClock } from '../../support/clock.ts'
import { type MariaDb, startMariaDb, whyNoMariaDb } from '../../support/mariadb.ts'
import { anOutcome, aPrompt } from '../../support/prompts.ts'

const reason = whyNoMariaDb()
const window = { idempotencyMs: 600_000 }
const megabyte = 1024 * 1024

describe.skipIf(reason !== undefined)(`a MySQL store${reason === undefined ? '' : ` (${reason})`}`, () => {
  let server: MariaDb
  let settings: MysqlSettings
  beforeAll(async () => {
    server = await startMariaDb()
  }, 60_000)
  afterAll(() => server?.stop())
  beforeEach(async () => {
    settings = await server.freshDatabase()
  })

  const open = (options: Partial<MysqlOptions> = {}) =>
    createMysqlStore({ settings, timeoutMs: 5_000, maxBodyBytes: megabyte, ...options })
  const admit = (store: Store, promptId: string, text = '{}') =>
    store.prompts.admit(aPrompt({ promptId, body: { text, sealed: undefined } }), window)
  const versions = async () => server.query(`select version from ${settings.database}.schema_versions order by version`)

  describe('at start', () => {
    it('makes the tables once when several gateways start at once', async () => {
      const stores = await Promise.all(Array.from({ length: 5 }, () => open()))
      expect(await versions()).toHaveLength(1)
      const admissions = await Promise.all(stores.map((store) => admit(store, 'same')))
      expect(admissions.filter(({ kind }) => kind === 'admitted')).toHaveLength(1)
      await Promise.all(stores.map((store) => store.close()))
    })

    it('goes on where an earlier start was cut off', async () => {
      await (await open()).close()
      await server.query(`delete from ${settings.database}.schema_versions`)
      await server.query(`drop table ${settings.database}.records`)
      await server.query(`drop index prompts_untold on ${settings.database}.prompts`)
      const store = await open()
      expect(await store.records.put('c', { id: 'r', value: 1 })).toMatchObject({ version: 1 })
      expect(await versions()).toEqual([{ version: 1 }])
      expect(
        await server.query(`show index from ${settings.database}.prompts where key_name = 'prompts_untold'`),
      ).toHaveLength(2)
      await store.close()
    })

    it('leaves the tables of another program alone', async () => {
      await server.query(`create table ${settings.database}.prompts (mine int)`)
      await expect(open()).rejects.toBeInstanceOf(StoreOpenError)
      expect(await server.query(`show columns from ${settings.database}.prompts`)).toHaveLength(1)
    })

    it('needs no right to make tables that docs/mysql_schema.sql has made', async () => {
      const { database } = settings
      await server.run({ database, file: new URL('../../../docs/mysql_schema.sql', import.meta.url).pathname })
      await server.query(`create user writer@'127.0.0.1' identified by 'secret'`)
      await server.query(`grant select, insert, update, delete on ${database}.* to writer@'127.0.0.1'`)
      settings = { ...settings, user: 'writer', password: 'secret' }
      const store = await open()
      expect((await admit(store, 'a')).kind).toBe('admitted')
      await store.close()
      const made =
        await server.query(`select table_name, column_name, column_type, is_nullable, column_key, collation_name
        from information_schema.columns where table_schema = '${database}' order by 1, 2`)
      settings = await server.freshDatabase()
      await (await open()).close()
      const migrated =
        await server.query(`select table_name, column_name, column_type, is_nullable, column_key, collation_name
        from information_schema.columns where table_schema = '${settings.database}' order by 1, 2`)
      expect(made).toEqual(migrated)
      expect(made.length).toBeGreaterThan(50)
    })

    it('says in a sentence what the operator has to change', async () => {
      const refusal = async (options: Partial<MysqlOptions>) => {
        const error = await open(options).then(
          () => undefined,
          (thrown: unknown) => thrown,
        )
        expect(error).toBeInstanceOf(StoreOpenError)
        return (error as StoreOpenError).message
      }
      await server.query(`create or replace user reader@'127.0.0.1' identified by 'secret'`)
      await server.query(`grant select on ${settings.database}.* to reader@'127.0.0.1'`)
      const reader = { ...settings, user: 'reader', password: 'secret' }
      expect(await refusal({ settings: { ...settings, database: 'nowhere' } })).toMatch(
        /^There is no database nowhere at/,
      )
      expect(await refusal({ settings: { ...reader, password: 'wrong' } })).toMatch(/refuses the user reader/)
      expect(await refusal({ settings: reader })).toMatch(/may not create tables .* docs\/mysql_schema.sql/)
      await (await open()).close()
      await server.query(`insert into ${settings.database}.schema_versions values (99, 'from the future', 0)`)
      expect(await refusal({})).toMatch(/newer ComfyFleet \(schema 99, this one knows \d+\)/)
    })

    it('tells a server that is away from one that cannot be used', async () => {
      const nobody = { ...settings, port: 1 }
      await expect(open({ settings: nobody })).rejects.toBeInstanceOf(StoreUnavailableError)
      const mysql = { settings: nobody, timeoutMs: 1_000, maxBodyBytes: megabyte }
      const opened = openStore({ kind: 'mysql', dataDir: '', sqliteSync: 'full', mysql })
      await expect(opened).rejects.toBeInstanceOf(StoreUnavailableError)
    })

    it('warns of settings that lose or refuse work', async () => {
      const warnings: string[] = []
      const warn = (sentence: string) => warnings.push(sentence)
      await (await open({ warn })).close()
      expect(warnings).toEqual([])
      await server.query('set global innodb_flush_log_at_trx_commit = 2')
      try {
        await (await open({ warn, maxBodyBytes: 100 * megabyte })).close()
      } finally {
        await server.query('set global innodb_flush_log_at_trx_commit = 1')
      }
      expect(warnings).toEqual([
        expect.stringMatching(/16777216 bytes, .* MAX_BODY_BYTES is 104857600: raise its max_allowed_packet$/),
        expect.stringMatching(/innodb_flush_log_at_trx_commit to 1, not 2$/),
      ])
      await server.query(`set global max_allowed_packet = ${megabyte}`)
      try {
        await expect(open()).rejects.toThrow(/statements of 1048576 bytes only: set its max_allowed_packet/)
      } finally {
        await server.query(`set global max_allowed_packet = ${16 * megabyte}`)
      }
    })
  })

  describe('what a client sends', () => {
    it('keeps a workflow of 16 MB with what everybody has set, and refuses a larger one with 413', async () => {
      const store = await open()
      const text = `{"ünï": "${'\\"'.repeat(7_999_990)}"}`
      expect(text.length).toBeGreaterThan(15_999_980)
      await admit(store, 'large', text)
      expect((await store.prompts.readBody('large'))?.text === text).toBe(true)
      await expect(admit(store, 'larger', 'x'.repeat(17_000_000))).rejects.toBeInstanceOf(BodyTooLargeError)
      expect(await store.prompts.get('larger')).toBeUndefined()
      await store.close()
    })

    it('keeps a body of 100 MB when the server takes it', { timeout: 60_000 }, async () => {
      await server.query(`set global max_allowed_packet = ${128 * megabyte}`)
      try {
        const store = await open({ timeoutMs: 2_000 })
        const text = '{"a": "é\\n"}\n'.repeat(8_000_000)
        expect(Buffer.byteLength(text)).toBeGreaterThan(100_000_000)
        await admit(store, 'huge', text)
        expect((await store.prompts.readBody('huge'))?.text === text).toBe(true)
        await store.close()
      } finally {
        await server.query(`set global max_allowed_packet = ${16 * megabyte}`)
      }
    })

    it('refuses an id that is too long as a fault of the request', async () => {
      const store = await open()
      const submit = (promptId: string) =>
        store.prompts.admit(aPrompt({ promptId, upstreamId: 'u', gatewayJobId: 'j' }), window)
      await expect(submit('x'.repeat(257))).rejects.toBeInstanceOf(NameTooLongError)
      expect((await submit('x'.repeat(256))).kind).toBe('admitted')
      await store.close()
    })

    it('stands in no error, which may be logged', async () => {
      const store = await open()
      const body = { text: 'secret workflow', sealed: 'secret keys' }
      const submit = store.prompts.admit(aPrompt({ promptId: 'a', owner: 'x'.repeat(999), body }), window)
      const error = await submit.catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(NameTooLongError)
      expect(inspect(error, { depth: 9, showHidden: true })).toContain('ER_DATA_TOO_LONG')
      expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/secret|xxxxxxxxxx/)
      await store.close()
    })
  })

  describe('several gateways', () => {
    let stores: Store[]
    beforeEach(async () => {
      stores = await Promise.all(Array.from({ length: 3 }, () => open()))
    })
    const closeAll = () => Promise.all(stores.map((store) => store.close()))

    it('run each prompt once, whoever claims, cancels or submits it', { timeout: 60_000 }, async () => {
      const promptIds = Array.from({ length: 60 }, (_, at) => `p${at}`)
      const admissions = await Promise.all(
        stores.flatMap((store) => promptIds.map((promptId) => admit(store, promptId))),
      )
      const admitted = admissions.flatMap((answer) => (answer.kind === 'admitted' ? [answer.prompt.sequence] : []))
      expect(admitted.toSorted((a, b) => a - b)).toEqual(promptIds.map((_, at) => at))

      const claims = await Promise.all(
        stores.flatMap((store, at) =>
          promptIds.map(async (promptId) => {
            if (at === 2) return store.prompts.cancelQueued(promptId, 'cancelled')
            return store.prompts.startAttempt({ promptId, workerId: `w${at}`, fence: 1, log: 'claimed' })
          }),
        ),
      )
      expect(
        claims
          .filter((claim) => claim !== undefined)
          .map((claim) => claim.promptId)
          .toSorted(),
      ).toEqual(promptIds.toSorted())

      const ends = await Promise.all(
        stores.flatMap((store) =>
          promptIds.map((promptId) => store.prompts.finish({ promptId, number: 1 }, anOutcome(), 'done')),
        ),
      )
      const ended = ends.flatMap((end) => (end === undefined ? [] : [end.promptId]))
      expect(new Set(ended).size).toBe(ended.length)
      const history = await stores[0]?.prompts.history({ owner: undefined, maxItems: undefined, offset: undefined })
      expect(history?.map(({ promptId }) => promptId).toSorted()).toEqual(ended.toSorted())
      await closeAll()
    })

    it('give the lease to one, whoever asks at the moment it expires', async () => {
      const clock = createClock()
      const asking = await Promise.all(stores.map(() => open({ clock: async () => clock.now() })))
      for (let round = 1; round <= 20; round += 1) {
        // Nobody asks under the same name again, so each round begins with a lease that has just expired.
        const asked = await Promise.all(
          asking.flatMap((store, at) =>
            ['a', 'b'].map((name) =>
              store.leases.acquire({ name: 'lead', holder: `${round} ${at} ${name}`, ttlMs: 100 }),
            ),
          ),
        )
        const taken = asked.filter((lease) => lease !== undefined)
        expect(taken.map(({ fence }) => fence)).toEqual([round])
        await clock.advance(100)
      }
      await Promise.all(asking.map((store) => store.close()))
      await closeAll()
    })

    it('refuse the claims of a leader from the moment another leads', async () => {
      const [old, next] = stores as [Store, Store]
      const promptIds = Array.from({ length: 100 }, (_, at) => `p${at}`)
      await Promise.all(promptIds.map((promptId) => admit(old, promptId)))
      const lease = await old.leases.acquire({ name: 'lead', holder: 'old', ttlMs: 1 })
      const claims = promptIds.map((promptId) =>
        old.prompts.startAttempt({ promptId, workerId: 'w', fence: lease?.fence ?? 0, log: 'claimed' }),
      )
      await vi.waitUntil(
        async () => (await next.leases.acquire({ name: 'lead', holder: 'next', ttlMs: 9e6 })) !== undefined,
      )
      const seen = await next.prompts.unfinished()
      const won = (await Promise.all(claims)).filter((claim) => claim !== undefined).map(({ promptId }) => promptId)
      const claimed = seen.filter(({ status }) => status === 'dispatching').map(({ promptId }) => promptId)
      expect(claimed.toSorted()).toEqual(won.toSorted())
      await closeAll()
    })

    it('keep lists and history in step when entries are made, shown and deleted at once', async () => {
      const [one, other] = stores as [Store, Store]
      for (let round = 0; round < 20; round += 1) {
        const promptIds = [0, 1, 2, 3].map((at) => `${round}-${at}`)
        await Promise.all(
          promptIds.map((promptId) => one.prompts.admit(aPrompt({ promptId, admitted: false }), window)),
        )
        await Promise.all([
          ...promptIds.map((promptId) => one.prompts.finish({ promptId, number: 0 }, anOutcome(), 'done')),
          ...promptIds.map((promptId) => other.prompts.publish(promptId)),
          ...(round % 2 === 0
            ? [other.prompts.clearHistory({ caller: '127.0.0.1' })]
            : [other.prompts.deleteHistory({ promptIds, owner: undefined })]),
        ])
        const { prompts } = await one.prompts.list({
          owner: undefined,
          statuses: ['succeeded'],
          workflowId: undefined,
          sortBy: 'created_at',
          descending: false,
          limit: undefined,
          offset: 0,
        })
        const history = await other.prompts.history({ owner: undefined, maxItems: undefined, offset: undefined })
        expect(history.map(({ promptId }) => promptId).toSorted()).toEqual(
          prompts.map(({ promptId }) => promptId).toSorted(),
        )
      }
      await closeAll()
    })

    it('go by the clock of the server, whatever their own says', async () => {
      const [one, other] = stores as [Store, Store]
      const before = Date.now()
      vi.useFakeTimers({ toFake: ['Date'], now: before + 7_200_000 })
      try {
        const { prompt } = await admit(one, 'a')
        expect(Math.abs(prompt.createdAt - before)).toBeLessThan(60_000)
        expect(await one.leases.acquire({ name: 'lead', holder: 'one', ttlMs: 60_000 })).toBeDefined()
        vi.setSystemTime(before + 14_400_000)
        expect(await other.leases.acquire({ name: 'lead', holder: 'other', ttlMs: 60_000 })).toBeUndefined()
      } finally {
        vi.useRealTimers()
        await closeAll()
      }
    })
  })

  describe('when the server is in trouble', () => {
    it('refuses at once while it is gone, keeps what it confirmed, and serves again by itself', {
      timeout: 60_000,
    }, async () => {
      const store = await open()
      const confirmed: string[] = []
      let isDown = false
      const lane = async (name: number) => {
        for (let at = 0; ; at += 1) {
          const promptId = `${name}-${at}`
          try {
            await admit(store, promptId)
            confirmed.push(promptId)
          } catch (error) {
            expect(error).toBeInstanceOf(StoreUnavailableError)
            isDown = true
            return
          }
        }
      }
      const lanes = Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(lane))
      await vi.waitUntil(() => confirmed.length > 100)
      await server.kill()
      await lanes
      expect(isDown).toBe(true)
      const many = await Promise.allSettled(Array.from({ length: 50 }, (_, at) => admit(store, `down-${at}`)))
      expect(many.every((answer) => answer.status === 'rejected')).toBe(true)
      await server.start()
      expect((await admit(store, 'again')).kind).toBe('admitted')
      const kept = new Set((await store.prompts.unfinished()).map(({ promptId }) => promptId))
      expect(confirmed.filter((promptId) => !kept.has(promptId))).toEqual([])
      await store.close()
    })

    it('gives up on a server that stands still, for every call that waits, and serves again when it goes on', async () => {
      const store = await open({ timeoutMs: 300, settings: { ...settings, connections: 2 } })
      await admit(store, 'before')
      process.kill(server.pid(), 'SIGSTOP')
      try {
        const began = performance.now()
        const answers = await Promise.allSettled(Array.from({ length: 30 }, (_, at) => store.prompts.get(`${at}`)))
        expect(performance.now() - began).toBeLessThan(3_000)
        for (const answer of answers) {
          expect(answer).toMatchObject({ status: 'rejected', reason: expect.any(StoreUnavailableError) })
        }
      } finally {
        process.kill(server.pid(), 'SIGCONT')
      }
      await vi.waitUntil(() => admit(store, 'after').catch(() => undefined), { timeout: 5_000, interval: 50 })
      expect((await store.prompts.unfinished()).map(({ promptId }) => promptId)).toEqual(['before', 'after'])
      await store.close()
    })

    it('confirms nothing on a server that has become read-only, and serves again when it writes', async () => {
      await (await open()).close()
      await server.query(`create or replace user plain@'127.0.0.1' identified by 'secret'`)
      await server.query(`grant all on ${settings.database}.* to plain@'127.0.0.1'`)
      const store = await open({ settings: { ...settings, user: 'plain', password: 'secret' } })
      await admit(store, 'before')
      await server.query('set global read_only = 1')
      try {
        await expect(admit(store, 'refused')).rejects.toBeInstanceOf(StoreUnavailableError)
        expect(await store.prompts.get('before')).toBeDefined()
      } finally {
        await server.query('set global read_only = 0')
      }
      expect((await admit(store, 'after')).kind).toBe('admitted')
      expect(await store.prompts.get('refused')).toBeUndefined()
      await store.close()
    })

    it('takes another connection when the server has closed the ones it had', async () => {
      const store = await open()
      await Promise.all(Array.from({ length: 20 }, (_, at) => admit(store, `${at}`)))
      for (const { id } of await server.query(
        `select id from information_schema.processlist where db = '${settings.database}'`,
      )) {
        await server.query(`kill ${id}`)
      }
      const answers = await Promise.all(Array.from({ length: 20 }, (_, at) => store.prompts.get(`${at}`)))
      expect(answers.filter((prompt) => prompt !== undefined)).toHaveLength(20)
      await store.close()
    })
  })
})
