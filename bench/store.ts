// How fast a store takes prompts: `npx tsx bench/store.ts [prompts]`. Nothing here asserts; read the table.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { createMemoryStore } from '../src/store/memory/memory.ts'
import { createRedisStore } from '../src/store/redis/redis.ts'
import { createMysqlStore } from '../src/store/sql/mysql.ts'
import { createSqliteStore } from '../src/store/sql/sqlite.ts'
import type { NewPrompt, Store } from '../src/store/store.ts'
import { startMariaDb, whyNoMariaDb } from '../test/support/mariadb.ts'
import { hasRedisServer, type RedisServer, startRedis } from '../test/support/redis-server.ts'

const count = Number(process.argv[2] ?? 10_000)
const folder = mkdtempSync(join(tmpdir(), 'bench-store-'))
const text = JSON.stringify({ prompt: Object.fromEntries(Array.from({ length: 30 }, (_, at) => [at, node(at)])) })

function node(at: number) {
  return { class_type: `Node${at}`, inputs: { seed: at, text: 'a photo of a cat, '.repeat(8), model: ['4', 0] } }
}

function prompt(at: number): NewPrompt {
  return {
    promptId: `00000000-0000-4000-8000-${String(at).padStart(12, '0')}`,
    upstreamId: `00000000-0000-4000-8000-${String(at).padStart(12, '0')}`,
    gatewayJobId: `job-${at}`,
    owner: 'open',
    caller: `10.0.0.${at % 250}`,
    clientId: `client-${at % 20}`,
    priority: 0,
    admitted: true,
    bodyHash: 'b'.repeat(64),
    traits: {
      classTypes: Array.from({ length: 30 }, (_, n) => `Node${n}`),
      combos: [{ classType: 'CheckpointLoaderSimple', input: 'ckpt_name', value: 'sd_xl_base_1.0.safetensors' }],
      outputs: ['9'],
      nodeCount: 30,
      hasPaidNodes: false,
      sizes: [],
      pinnedWorkerIds: [],
      inputs: [],
    },
    workflowId: undefined,
    order: undefined,
    body: { text, sealed: undefined },
  }
}

async function measure(store: Store, from: number, many: number, lanes: number) {
  const latencies: number[] = []
  let next = from
  const lane = async () => {
    while (next < from + many) {
      const at = next
      next += 1
      const began = performance.now()
      await store.prompts.admit(prompt(at), { idempotencyMs: 600_000 })
      latencies.push(performance.now() - began)
    }
  }
  const began = performance.now()
  await Promise.all(Array.from({ length: lanes }, lane))
  const seconds = (performance.now() - began) / 1000
  latencies.sort((a, b) => a - b)
  const quantile = (q: number) => (latencies[Math.floor(latencies.length * q)] ?? 0).toFixed(2)
  return { 'per second': Math.round(many / seconds), 'p50 ms': quantile(0.5), 'p99 ms': quantile(0.99) }
}

const stores: Record<string, () => Promise<Store>> = {
  memory: async () => createMemoryStore(),
  'sqlite full': () => createSqliteStore({ file: join(folder, 'full.sqlite'), sync: 'full' }),
  'sqlite normal': () => createSqliteStore({ file: join(folder, 'normal.sqlite'), sync: 'normal' }),
}

const servers: RedisServer[] = []
for (const appendfsync of hasRedisServer ? ['always', 'everysec'] : []) {
  const server = await startRedis({ appendfsync })
  servers.push(server)
  stores[`redis ${appendfsync}`] = () => createRedisStore({ url: server.url, prefix: 'bench', timeoutMs: 10_000 })
}
if (!hasRedisServer) console.log('redis is left out: redis-server is not installed')
const noMariaDb = whyNoMariaDb()
const mariaDb = noMariaDb === undefined ? await startMariaDb() : undefined
if (mariaDb === undefined) console.log(`without mysql: ${noMariaDb}`)
else {
  const settings = await mariaDb.freshDatabase()
  stores.mysql = () => createMysqlStore({ settings, timeoutMs: 10_000, maxBodyBytes: 1 })
}

const admits: Record<string, object> = {}
const starts: Record<string, object> = {}
for (const [name, open] of Object.entries(stores)) {
  const store = await open()
  let from = 0
  for (const lanes of [1, 10, 100]) {
    const many = lanes === 1 ? Math.ceil(count / 10) : count
    admits[`${name}, ${lanes} at a time`] = await measure(store, from, many, lanes)
    from += many
  }
  await store.close()

  const again = await open()
  const began = performance.now()
  const loaded = await again.prompts.unfinished()
  starts[name] = { loaded: loaded.length, 'unfinished() ms': (performance.now() - began).toFixed(0) }
  await again.close()
}
console.log(`admit, a body of ${(text.length / 1024).toFixed(1)} KiB`)
console.table(admits)
console.log('loading what is not finished (memory forgets)')
console.table(starts)
for (const server of servers) {
  const client = new Redis(server.port)
  const used = Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1])
  const waiting = await client.zcard('{bench}:unfinished')
  client.disconnect()
  const each = (used / waiting - text.length) / 1024
  console.log(`redis: ${each.toFixed(1)} KiB of memory for each waiting prompt beside its body`)
  await server.stop()
}
await mariaDb?.stop()
rmSync(folder, { recursive: true, force: true })
