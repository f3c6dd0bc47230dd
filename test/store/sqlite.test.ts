import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { afterAll, describe, expect, it } from 'vitest'
import { openStore } from '../../src/store/open.ts'
import { StoreOpenError } from '../../src/store/open-error.ts'
import { createSqliteStore } from '../../src/store/sql/sqlite.ts'
import { storeContract } from '../contracts/store.ts'
import { createClock } from '../support/clock.ts'
import { anOutcome, aPrompt } from '../support/prompts.ts'

const folder = mkdtempSync(join(tmpdir(), 'store-sqlite-'))
let files = 0
const freshFile = () => join(folder, `${files++}`, 'deep', 'store.sqlite')
afterAll(() => rmSync(folder, { recursive: true, force: true }))

storeContract('sqlite', async () => {
  const clock = createClock()
  const store = await createSqliteStore({ file: freshFile(), sync: 'normal', now: clock.now })
  return { store, advance: clock.advance }
})

const window = { idempotencyMs: 600_000 }
const open = (file: string) => createSqliteStore({ file, sync: 'full' })

describe('a SQLite file', () => {
  it('reads prompts that were written before their files were bound', async () => {
    const file = freshFile()
    const first = await open(file)
    await first.prompts.admit(aPrompt({ promptId: 'old' }), window)
    await first.close()
    const raw = new Database(file)
    raw.exec("UPDATE prompts SET traits = json_remove(traits, '$.inputs')")
    raw.close()
    const second = await open(file)
    expect((await second.prompts.get('old'))?.traits).toEqual(aPrompt({ promptId: 'old' }).traits)
    await second.close()
  })

  it('keeps everything when it is closed and opened again', async () => {
    const file = freshFile()
    const first = await open(file)
    expect(first.isDurable).toBe(true)
    await first.prompts.admit(aPrompt({ promptId: 'done', clientId: 'c' }), window)
    await first.prompts.admit(aPrompt({ promptId: 'waiting', body: { text: '{"a": 1.0}', sealed: 's' } }), window)
    const attempt = await first.prompts.startAttempt({ promptId: 'done', workerId: 'w', fence: 3, log: 'claimed' })
    if (attempt === undefined) throw new Error('not claimed')
    await first.prompts.finish(attempt, anOutcome(), 'done')
    const lease = await first.leases.acquire({ name: 'lead', holder: 'one', ttlMs: 60_000 })
    await first.records.put('c', { id: 'r', value: 1 })
    const done = await first.prompts.get('done')
    await first.close()

    const second = await open(file)
    expect(await second.prompts.get('done')).toEqual(done)
    expect(await second.prompts.readBody('waiting')).toEqual({ text: '{"a": 1.0}', sealed: 's' })
    expect((await second.prompts.logOf('done')).map((line) => line.text)).toEqual(['claimed', 'done'])
    expect((await second.prompts.untold(60_000)).map((prompt) => prompt.promptId)).toEqual(['done'])
    expect(await second.records.get('c', 'r')).toMatchObject({ version: 1 })
    expect(await second.leases.acquire({ name: 'lead', holder: 'two', ttlMs: 1 })).toBeUndefined()
    expect(await second.leases.acquire({ name: 'lead', holder: 'one', ttlMs: 1 })).toEqual(lease)
    expect((await second.prompts.admit(aPrompt({ promptId: 'next' }), window)).prompt.sequence).toBe(2)
    await second.close()
  })

  it('is readable by its owner alone, with everything beside it', async () => {
    const store = await openStore({ kind: 'sqlite', dataDir: join(folder, 'private'), sqliteSync: 'full' })
    await store.records.put('c', { id: 'r', value: 1 })
    for (const name of ['comfyfleet.sqlite', 'comfyfleet.sqlite-wal']) {
      expect(statSync(join(folder, 'private', name)).mode & 0o777).toBe(0o600)
    }
    await store.close()
  })

  it('refuses a second store on the same file with one sentence, until the first is closed', async () => {
    const file = freshFile()
    const first = await open(file)
    await expect(open(file)).rejects.toThrow(`The store ${file} is in use by another gateway`)
    await expect(open(file)).rejects.toBeInstanceOf(StoreOpenError)
    expect((await first.prompts.admit(aPrompt({ promptId: 'a' }), window)).kind).toBe('admitted')
    await first.close()
    const second = await open(file)
    expect(await second.prompts.get('a')).toBeDefined()
    await second.close()
  })

  it('refuses a file that a newer version wrote, and leaves it as it is', async () => {
    const file = freshFile()
    await (await open(file)).close()
    const database = new Database(file)
    database.exec("INSERT INTO schema_versions (version, name, applied_at) VALUES (99, 'from the future', 0)")
    database.close()
    const before = readFileSync(file)
    await expect(open(file)).rejects.toThrow(/newer ComfyFleet \(schema 99, this one knows \d+\)/)
    await expect(open(file)).rejects.toBeInstanceOf(StoreOpenError)
    expect(readFileSync(file).includes('from the future')).toBe(true)
    expect(readFileSync(file).length).toBe(before.length)
  })

  it('says so when the file is something else, or cannot be created', async () => {
    const garbage = join(folder, 'garbage')
    writeFileSync(garbage, 'not a database, and long enough to be read as one '.repeat(100))
    await expect(open(garbage)).rejects.toBeInstanceOf(StoreOpenError)
    await expect(open(join(garbage, 'inside', 'a file'))).rejects.toThrow(/cannot be created/)
    expect(readFileSync(garbage, 'utf8')).toMatch(/^not a database/)
  })
})

describe('openStore', () => {
  it('opens the memory store by name', async () => {
    const store = await openStore({ kind: 'memory', dataDir: join(folder, 'unused'), sqliteSync: 'full' })
    expect(store.isDurable).toBe(false)
    await store.close()
  })
})
