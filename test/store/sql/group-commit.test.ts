import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql, type Transaction } from 'kysely'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { QueueFullError, StoreUnavailableError } from '../../../src/errors.ts'
import type { GroupCommit } from '../../../src/store/sql/group-commit.ts'
import type { Schema } from '../../../src/store/sql/schema.ts'
import { openWatchedSqlite } from '../../support/watched-sqlite.ts'

describe('a group commit', () => {
  let folder: string
  let runner: GroupCommit
  let statements: string[]

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'store-group-'))
    const opened = await openWatchedSqlite(join(folder, 'store.sqlite'))
    runner = opened.runner
    statements = opened.statements
  })
  afterEach(async () => {
    await runner.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const put = (id: string) => async (trx: Transaction<Schema>) => {
    const record = { collection: 'c', id, version: 1, value: '1', index_key: null, due_at: null }
    await trx.insertInto('records').values(record).execute()
    return id
  }
  const ids = async () => {
    const rows = await runner.run((trx) => trx.selectFrom('records').select('id').execute())
    return rows.map((row) => row.id)
  }

  it('commits once for all verbs of one turn', async () => {
    await Promise.all(['a', 'b', 'c'].map((id) => runner.run(put(id))))
    expect(statements.filter((statement) => statement === 'commit')).toHaveLength(1)
    expect(await ids()).toEqual(['a', 'b', 'c'])
  })

  it('shows a verb what the ones before it in the same turn wrote', async () => {
    const [, seen] = await Promise.all([runner.run(put('a')), ids()])
    expect(seen).toEqual(['a'])
  })

  it('undoes a failing verb alone, and lets a domain error through', async () => {
    const full = new QueueFullError(1, 1)
    const answers = await Promise.allSettled([
      runner.run(put('a')),
      runner.run(async (trx) => {
        await put('lost')(trx)
        throw full
      }),
      runner.run(put('a')),
      runner.run(put('b')),
    ])
    expect(answers.map((answer) => answer.status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled'])
    expect(answers[1]).toMatchObject({ reason: full })
    expect(answers[2]).toMatchObject({ reason: expect.any(StoreUnavailableError) })
    expect(answers[2]).toMatchObject({ reason: { cause: { code: expect.stringMatching(/^SQLITE_CONSTRAINT/) } } })
    expect(await ids()).toEqual(['a', 'b'])
  })

  it('rejects the whole batch when it cannot commit, and works again afterwards', async () => {
    const answers = await Promise.allSettled([
      runner.run(put('a')),
      runner.run(async (trx) => {
        // A body without its prompt is noticed by COMMIT only.
        await sql`pragma defer_foreign_keys = on`.execute(trx)
        await trx.insertInto('prompt_bodies').values({ prompt_sequence: 12345, sealed: null, text: '' }).execute()
      }),
      runner.run(() => Promise.reject(new QueueFullError(1, 1))),
    ])
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 'rejected', reason: expect.any(StoreUnavailableError) })
      expect(answer).toMatchObject({ reason: { cause: { message: expect.stringContaining('FOREIGN KEY') } } })
    }
    expect(await ids()).toEqual([])
    expect(await runner.run(put('b'))).toBe('b')
  })

  it('rejects when the disk is full, and works again afterwards', async () => {
    await runner.run(async (trx) => {
      const { rows } = await sql<{ page_count: number }>`pragma page_count`.execute(trx)
      await sql.raw(`pragma max_page_count = ${rows[0]?.page_count ?? 0}`).execute(trx)
    })
    const big = runner.run((trx) =>
      trx
        .insertInto('records')
        .values({ collection: 'c', id: 'big', version: 1, value: 'x'.repeat(1e6), index_key: null, due_at: null })
        .execute(),
    )
    await expect(big).rejects.toBeInstanceOf(StoreUnavailableError)
    await expect(big).rejects.toMatchObject({ cause: { message: expect.stringContaining('full') } })
    await runner.run((trx) => sql`pragma max_page_count = 1000000`.execute(trx))
    expect(await runner.run(put('b'))).toBe('b')
  })

  it('lets the event loop turn while very many verbs wait', async () => {
    let turns = 0
    let isDone = false
    const turn = () => {
      turns += 1
      if (!isDone) setImmediate(turn)
    }
    setImmediate(turn)
    await Promise.all(Array.from({ length: 3000 }, (_, at) => runner.run(put(`${at}`))))
    isDone = true
    expect(turns).toBeGreaterThan(3)
    expect(await ids()).toHaveLength(3000)
  })
})
