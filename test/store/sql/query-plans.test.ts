import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { expect, it } from 'vitest'
import { createSqlLeases } from '../../../src/store/sql/leases.ts'
import { createSqlPrompts } from '../../../src/store/sql/prompts.ts'
import { createSqlRecords } from '../../../src/store/sql/records.ts'
import { aFile, anOutcome, aPrompt } from '../../support/prompts.ts'
import { openWatchedSqlite } from '../../support/watched-sqlite.ts'

it('finds and orders everything by an index, so that a million finished prompts slow nothing down', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'store-plans-'))
  const path = join(folder, 'store.sqlite')
  const { runner, context, statements } = await openWatchedSqlite(path)
  const prompts = createSqlPrompts(context)
  const records = createSqlRecords(context)
  const leases = createSqlLeases(context)

  for (const promptId of ['a', 'b', 'c', 'd', 'e']) {
    await prompts.admit(aPrompt({ promptId, admitted: promptId === 'a' || promptId === 'e', workflowId: 'f' }), {
      idempotencyMs: 0,
    })
  }
  await prompts.publish('b')
  await prompts.discard('c')
  const claim = { promptId: 'a', workerId: 'w', fence: 1, log: 'claimed' }
  const first = await prompts.startAttempt(claim)
  if (first === undefined) throw new Error('not claimed')
  await prompts.markRunning(first)
  await prompts.requeue(first, { sent: true, workerDied: true, log: 'again' })
  const second = await prompts.startAttempt(claim)
  if (second === undefined) throw new Error('not claimed again')
  await prompts.finish(second, anOutcome({ files: [aFile()] }), 'done')
  await prompts.cancelQueued('b', 'cancelled')
  await prompts.finish({ promptId: 'e', number: 0 }, anOutcome(), 'done')
  // Listed are now one that waits and one that ended: a page takes from both.
  await prompts.admit(aPrompt({ promptId: 'a', workflowId: 'f' }), { idempotencyMs: 0 })
  await prompts.getByGatewayJobId('job-a')
  await prompts.readBodies(['a', 'b'])
  await prompts.unfinished()
  await prompts.markTold(['a'])
  await prompts.untold(1000)
  await prompts.log('a', 'line')
  await prompts.logOf('a')
  await prompts.historyEntry('a')
  for (const owner of [undefined, 'open']) {
    for (const workflowId of [undefined, 'f']) {
      const query = { owner, workflowId, statuses: [], descending: true, limit: 10, offset: 1 }
      await prompts.list({ ...query, sortBy: 'created_at' })
      // The runs of one workflow are few enough to be sorted by how long they took.
      if (workflowId === undefined) await prompts.list({ ...query, sortBy: 'execution_duration' })
    }
    for (const promptId of [undefined, 'a']) {
      await prompts.findFileByName({ ...aFile(), owner, promptId, subfolder: undefined })
    }
    await prompts.history({ owner, maxItems: 2, offset: undefined })
    await prompts.history({ owner, maxItems: 2, offset: 1 })
    await prompts.deleteHistory({ promptIds: ['a'], owner })
  }
  await prompts.findFile(aFile())
  await prompts.newestOnWorker(aFile())
  await prompts.newestFiles({ owner: 'open', type: 'output', limit: 10 })
  await prompts.clearHistory({ caller: 'k' })
  await prompts.prune({ maxEntries: 0, maxAgeMs: 0 })
  await records.put('c', { id: 'r', value: 1 })
  await records.get('c', 'r')
  await records.list('c')
  await records.list('c', { index: 'i' })
  await records.due('c', 5)
  await records.delete('c', 'r')
  await leases.acquire({ name: 'lead', holder: 'one', ttlMs: 1 })
  await leases.release({ name: 'lead', holder: 'one' })

  const queries = [...new Set(statements)].filter((statement) => /^(select|update|delete)/.test(statement))
  expect(queries.length).toBeGreaterThan(40)
  await runner.close()

  const database = new Database(path)
  // Parameters are left open: the plan does not depend on them.
  const planOf = (query: string) =>
    (database.prepare(`explain query plan ${query}`).all([]) as { detail: string }[]).map((step) => step.detail)
  const slow = queries.flatMap((query) => {
    const bad = planOf(query).filter((detail) => /^SCAN|TEMP B-TREE/.test(detail))
    return bad.length === 0 ? [] : [{ query, bad }]
  })
  expect(slow).toEqual([])
  // Totals and the order of pages come from an index alone, and of it only what is listed is read. All but a page of one
  // workflow over all owners, which no route asks for.
  const isOverAllOwners = (query: string) => query.includes('union all') && /^(?!.*"owner").*"workflow_id"/.test(query)
  const lists = queries.filter((query) => /count\(\*\)| union all /.test(query) && !isOverAllOwners(query))
  expect(lists).toHaveLength(9)
  const searches = lists.flatMap(planOf).filter((detail) => detail.startsWith('SEARCH'))
  expect(searches.filter((detail) => !/COVERING INDEX .*listed=\?/.test(detail))).toEqual([])

  database.close()
  rmSync(folder, { recursive: true, force: true })
})
