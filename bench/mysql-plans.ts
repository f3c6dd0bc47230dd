// How MySQL or MariaDB answers the store's queries among many finished prompts: `npx tsx bench/mysql-plans.ts [prompts]`.
// Fills a server of its own with rows, asks for everything the gateway asks for, and prints plan and time of each query
// as a table for docs/stores.md. Nothing here asserts.
import { CompiledQuery, Kysely, MysqlDialect } from 'kysely'
import { createConnection } from 'mysql2/promise'
import { mysqlDialect } from '../src/store/sql/dialect.ts'
import { createSqlLeases } from '../src/store/sql/leases.ts'
import { createMysqlStore } from '../src/store/sql/mysql.ts'
import { openMysqlPool } from '../src/store/sql/mysql-pool.ts'
import { MysqlRunner } from '../src/store/sql/mysql-runner.ts'
import { mysqlClock } from '../src/store/sql/mysql-server.ts'
import { sessionStatements } from '../src/store/sql/mysql-session.ts'
import { createSqlPrompts } from '../src/store/sql/prompts.ts'
import { createSqlRecords } from '../src/store/sql/records.ts'
import type { Schema } from '../src/store/sql/schema.ts'
import type { JobQuery } from '../src/store/store.ts'
import { startMariaDb } from '../test/support/mariadb.ts'
import { aFile, anOutcome, aPrompt } from '../test/support/prompts.ts'

const count = Number(process.argv[2] ?? 1_000_000)
const waiting = 10_000
const server = await startMariaDb([
  '--innodb-flush-log-at-trx-commit=0',
  '--innodb-buffer-pool-size=2G',
  '--innodb-log-file-size=1G',
])
const settings = await server.freshDatabase()
await (await createMysqlStore({ settings, timeoutMs: 60_000, maxBodyBytes: 1 })).close()
const admin = await createConnection({
  host: settings.host,
  port: settings.port,
  user: settings.user,
  database: settings.database,
})

/** Finished prompts with a body, an entry, two lines of log and a file each, of 50 owners, 200 callers and 1,000 workflows; and some that wait. */
async function fill(): Promise<void> {
  const now = Date.now()
  await admin.query('set unique_checks = 0, foreign_key_checks = 0')
  const step = 20_000
  for (let from = 0; from < count + waiting; from += step) {
    const to = Math.min(from + step, count + waiting) - 1
    const rows = `seq_${from}_to_${to}`
    const ended = `seq < ${count}`
    const status = `if(${ended}, case when seq % 20 = 0 then 'failed' when seq % 33 = 0 then 'cancelled' else 'succeeded' end, 'queued')`
    await admin.query(`insert into prompts select seq, concat('00000000-0000-4000-8000-', lpad(seq, 12, '0')),
      concat('00000000-0000-4000-8000-', lpad(seq, 12, '0')), concat('job-', seq), concat('owner-', seq % 50),
      concat('caller-', seq % 200), concat('client-', seq % 5000), seq, 0, 0, ${status}, 1, 1, if(${ended}, 1, 0), 1, 0,
      concat('worker-', seq % 30), repeat('b', 64), concat('flow-', seq % 1000), ${now - 86_400_000 * 30} + seq * 2592,
      ${now - 86_400_000 * 30} + seq * 2592, if(${ended}, ${now - 86_400_000 * 30} + seq * 2592 + 5000, null),
      if(${ended}, 1000 + seq * 7919 % 60000, 0), if(${ended}, seq, null), if(${ended} and seq < ${count - 50}, 1, 0), null,
      '{"classTypes":["KSampler"],"combos":[],"outputs":["9"],"nodeCount":7,"sizes":[],"hasPaidNodes":false,"pinnedWorkerIds":[]}',
      null from ${rows}`)
    await admin.query(`insert into prompt_bodies select seq, null, repeat('{"prompt": 1}', 40) from ${rows}`)
    await admin.query(`insert into prompt_history select seq, concat('00000000-0000-4000-8000-', lpad(seq, 12, '0')),
      concat('owner-', seq % 50), concat('caller-', seq % 200), 1, seq, repeat('{"outputs": 1}', 40) from ${rows} where ${ended}`)
    await admin.query(`insert into prompt_files select seq, concat('00000000-0000-4000-8000-', lpad(seq, 12, '0')),
      concat('owner-', seq % 50), concat('worker-', seq % 30), concat('token-', seq % 30), 'output', '', concat('ComfyUI_', lpad(seq % 100, 5, '0'), '_.png'),
      concat('ComfyUI_', lpad(seq % 100, 5, '0'), '_.png') from ${rows} where ${ended}`)
    await admin.query(`insert into prompt_logs select seq, 1, 0, 'claimed' from ${rows} where ${ended}`)
    await admin.query(`insert into prompt_logs select seq, 2, 0, 'finished' from ${rows} where ${ended}`)
  }
  await admin.query(
    `insert into records select 'c', concat('record-', seq), 1, concat('index-', seq % 1000), if(seq % 2, seq, null), '{}' from seq_1_to_100000`,
  )
  await admin.query(`update counters set value = ${count + waiting}`)
  await admin.query('analyze table prompts, prompt_bodies, prompt_history, prompt_files, prompt_logs, records')
}

const began = performance.now()
await fill()
console.error(`filled in ${((performance.now() - began) / 1_000).toFixed(0)} s`)

const session = sessionStatements({ lockWaitSeconds: 1 })
for (const statement of session) await admin.query(statement)
const seen = new Map<string, { sql: string; parameters: readonly unknown[]; ms: number }>()
const limits = { timeoutMs: 600_000, connectTimeoutMs: 5_000, maxPacketBytes: 16_777_216 }
const database = new Kysely<Schema>({
  dialect: new MysqlDialect({
    pool: openMysqlPool(settings, limits),
    onCreateConnection: async (connection) => {
      for (const statement of session) await connection.executeQuery(CompiledQuery.raw(statement))
    },
  }),
  log: ({ query, queryDurationMillis }) => {
    if (!seen.has(query.sql)) seen.set(query.sql, { ...query, ms: queryDurationMillis })
  },
})
const runner = new MysqlRunner({ database, connections: 10, timeoutMs: 600_000 })
const context = { runner, dialect: mysqlDialect, clock: mysqlClock }
const prompts = createSqlPrompts(context)
const records = createSqlRecords(context)
const leases = createSqlLeases(context)

const plans: { verb: string; statement: string; plan: string; ms: number }[] = []
const verbs: { verb: string; ms: number }[] = []
/** Runs a verb and explains every statement that no verb before it has sent. */
async function ask(verb: string, call: () => Promise<unknown>): Promise<void> {
  const known = new Set(seen.keys())
  const start = performance.now()
  await call()
  verbs.push({ verb, ms: performance.now() - start })
  for (const { sql, parameters, ms } of seen.values()) {
    if (known.has(sql) || !/^(select .* from|update|delete)/.test(sql)) continue
    const [rows] = await admin.query(`explain ${sql}`, [...parameters])
    const steps = (rows as Record<string, unknown>[]).map(({ table, type, key, rows, Extra }) =>
      `${table ?? ''}: ${type ?? ''} ${key ?? ''} ${rows ?? ''} ${Extra ?? ''}`.replace(/ +/g, ' ').trim(),
    )
    plans.push({ verb, statement: shortened(sql), plan: steps.join('; '), ms })
  }
}

/** A page has one part for each status, all alike: the first is enough to read. */
function shortened(sql: string): string {
  return sql
    .replaceAll('`', '')
    .replace(/(\?, )+\?/g, '?')
    .replace(/ union all .* as part order by/, ' union all … order by')
}

const id = (at: number) => `00000000-0000-4000-8000-${String(at).padStart(12, '0')}`
const middle = Math.floor(count / 2)
const page: JobQuery = {
  owner: undefined,
  statuses: [],
  workflowId: undefined,
  sortBy: 'created_at',
  descending: true,
  limit: 100,
  offset: 0,
}
await ask('unfinished', () => prompts.unfinished())
await ask('list', () => prompts.list(page))
await ask('list, sorted by duration', () => prompts.list({ ...page, sortBy: 'execution_duration' }))
await ask('list, of an owner', () => prompts.list({ ...page, owner: 'owner-7' }))
await ask('list, of an owner, sorted by duration', () =>
  prompts.list({ ...page, owner: 'owner-7', sortBy: 'execution_duration' }),
)
await ask('list, of a workflow', () => prompts.list({ ...page, workflowId: 'flow-7' }))
await ask('list, of a workflow and an owner', () => prompts.list({ ...page, workflowId: 'flow-7', owner: 'owner-7' }))
await ask('list, from the middle on', () => prompts.list({ ...page, offset: middle }))
await ask('history, newest', () => prompts.history({ owner: undefined, maxItems: 200, offset: undefined }))
await ask('history, from the middle on', () => prompts.history({ owner: undefined, maxItems: 200, offset: middle }))
await ask('history, of an owner', () => prompts.history({ owner: 'owner-7', maxItems: 200, offset: undefined }))
await ask('history, of an owner, from 1,000 on', () =>
  prompts.history({ owner: 'owner-7', maxItems: 200, offset: 1_000 }),
)
await ask('historyEntry', () => prompts.historyEntry(id(middle)))
await ask('get', () => prompts.get(id(middle)))
await ask('getByGatewayJobId', () => prompts.getByGatewayJobId(`job-${middle}`))
await ask('readBodies', () => prompts.readBodies([id(middle), id(3)]))
await ask('logOf', () => prompts.logOf(id(middle)))
await ask('untold', () => prompts.untold(300_000_000))
const file = aFile({ filename: 'ComfyUI_00007_.png', token: 'token-7', workerId: 'worker-7' })
await ask('findFile', () => prompts.findFile(file))
await ask('newestOnWorker', () => prompts.newestOnWorker(file))
await ask('findFileByName', () =>
  prompts.findFileByName({ ...file, owner: undefined, promptId: undefined, subfolder: undefined }),
)
await ask('findFileByName, of an owner', () =>
  prompts.findFileByName({ ...file, owner: 'owner-7', promptId: undefined, subfolder: '' }),
)
await ask('findFileByName, of a prompt', () =>
  prompts.findFileByName({ ...file, owner: undefined, promptId: id(7), subfolder: undefined }),
)
await ask('findFileByName, of a prompt and an owner', () =>
  prompts.findFileByName({ ...file, owner: 'owner-7', promptId: id(7), subfolder: undefined }),
)
await ask('newestFiles, of an owner', () => prompts.newestFiles({ owner: 'owner-7', type: 'output', limit: 200 }))
await ask('admit', () => prompts.admit(aPrompt({ promptId: 'new', admitted: false }), { idempotencyMs: 1 }))
await ask('publish', () => prompts.publish('new'))
await ask('startAttempt', () => prompts.startAttempt({ promptId: 'new', workerId: 'w', fence: 9e9, log: 'claimed' }))
await ask('markRunning', () => prompts.markRunning({ promptId: 'new', number: 1, workerId: 'w' }))
await ask('requeue', () =>
  prompts.requeue({ promptId: 'new', number: 1, workerId: 'w' }, { sent: true, workerDied: false, log: 'again' }),
)
await ask('log', () => prompts.log('new', 'a line'))
await ask('finish', () => prompts.finish({ promptId: 'new', number: 1 }, anOutcome({ files: [file] }), 'done'))
await ask('cancelQueued', () => prompts.cancelQueued(id(count + 5), 'cancelled'))
await ask('markTold', () => prompts.markTold(['new']))
await ask('discard', () => prompts.discard('unknown'))
await ask('deleteHistory', () => prompts.deleteHistory({ promptIds: [id(middle)], owner: 'owner-0' }))
await ask('clearHistory, of a 200th of all', () => prompts.clearHistory({ caller: 'caller-9' }))
await ask('prune, of 200 by count', () => prompts.prune({ maxEntries: count - 200, maxAgeMs: undefined }))
await ask('prune, of none by age', () => prompts.prune({ maxEntries: undefined, maxAgeMs: 86_400_000 * 300 }))
await ask('records.get', () => records.get('c', 'record-7'))
await ask('records.put', () => records.put('c', { id: 'record-7', value: 1 }))
await ask('records.list, by index', () => records.list('c', { index: 'index-7' }))
await ask('records.due', () => records.due('c', 100))
await ask('records.delete', () => records.delete('c', 'record-7'))
await ask('leases.acquire', () => leases.acquire({ name: 'lead', holder: 'one', ttlMs: 1 }))
await ask('leases.release', () => leases.release({ name: 'lead', holder: 'one' }))

const [version] = await server.query('select version() as version')
console.log(`${count} finished prompts, ${waiting} waiting, ${version?.version}\n`)
console.log('| verb | ms |\n|---|---|')
for (const { verb, ms } of verbs) console.log(`| ${verb} | ${ms.toFixed(1)} |`)
console.log('\n| first asked by | statement | plan | ms |\n|---|---|---|---|')
for (const { verb, statement, plan, ms } of plans)
  console.log(`| ${verb} | \`${statement}\` | ${plan} | ${ms.toFixed(1)} |`)
await runner.close()
await admin.end()
await server.stop()
