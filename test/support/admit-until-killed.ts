// Admits prompts as fast as it can and prints each id once the store says that it is kept. Runs until it is killed.
import { createRedisStore } from '../../src/store/redis/redis.ts'
import { createMysqlStore } from '../../src/store/sql/mysql.ts'
import { createSqliteStore } from '../../src/store/sql/sqlite.ts'
import type { Store } from '../../src/store/store.ts'
import { anOutcome, aPrompt } from './prompts.ts'

const [place, round] = process.argv.slice(2)
if (place === undefined)
  throw new Error('usage: admit-until-killed <SQLite file, redis://… or settings of MySQL as JSON> <round>')
const store = await openStoreAt(place)

function openStoreAt(where: string): Promise<Store> {
  if (where.startsWith('redis:')) return createRedisStore({ url: where, prefix: 'crash', timeoutMs: 2_000 })
  if (!where.startsWith('{')) return createSqliteStore({ file: where, sync: 'full' })
  return createMysqlStore({ settings: JSON.parse(where), timeoutMs: 10_000, maxBodyBytes: 1 })
}

async function admitForEver(lane: number): Promise<never> {
  for (let at = 0; ; at += 1) {
    const promptId = `${round}-${lane}-${at}`
    const text = `{"prompt": "${promptId}", "filler": "${'x'.repeat(at % 5000)}"}`
    await store.prompts.admit(aPrompt({ promptId, body: { text, sealed: undefined } }), { idempotencyMs: 1 })
    process.stdout.write(`admitted ${promptId}\n`)
    if (at % 3 !== 0) continue
    await store.prompts.finish({ promptId, number: 0 }, anOutcome({ history: text }), 'done')
    process.stdout.write(`finished ${promptId}\n`)
  }
}

await Promise.all([0, 1, 2, 3, 4, 5].map(admitForEver))
