// Admits prompts as fast as it can and prints each id once the store says that it is kept. Runs until it is killed.
import { createRedisStore } from '../../src/store/redis/redis.ts'
import { createSqliteStore } from '../../src/store/sql/sqlite.ts'
import { anOutcome, aPrompt } from './prompts.ts'

const [place, round] = process.argv.slice(2)
if (place === undefined) throw new Error('usage: admit-until-killed <SQLite file or redis://…> <round>')
const store = place.startsWith('redis:')
  ? await createRedisStore({ url: place, prefix: 'crash', timeoutMs: 2_000 })
  : await createSqliteStore({ file: place, sync: 'full' })

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
