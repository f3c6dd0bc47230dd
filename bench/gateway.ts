// What the gateway adds to `POST /prompt` and to a whole run: `npx tsx bench/gateway.ts [prompts]`. Nothing here asserts.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { createApp } from '../src/app.ts'
import { loadConfig } from '../src/config/load.ts'
import { startSimulatedFleet } from '../src/demo/fleet.ts'

const count = Number(process.argv[2] ?? 1_000)
const lanes = 20

const graph = (n: number) => ({
  '1': { class_type: 'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, color: n } },
  '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'bench' } },
})

interface Figures {
  'post p50 ms': number
  'post p99 ms': number
  'prompts a second': number
}

/** Submits from several lanes at once, and waits until all are in history. */
async function measure(url: string, offset: number): Promise<Figures> {
  const posts: number[] = []
  const ids: string[] = []
  let next = 0
  const lane = async () => {
    while (next < count) {
      const n = next++
      const began = performance.now()
      const response = await fetch(`${url}/prompt`, {
        method: 'POST',
        body: JSON.stringify({ prompt: graph(offset + n), client_id: `lane-${n % lanes}` }),
      })
      ids.push(((await response.json()) as { prompt_id: string }).prompt_id)
      posts.push(performance.now() - began)
    }
  }
  const began = performance.now()
  await Promise.all(Array.from({ length: lanes }, lane))
  while ((await remaining(url)) > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  const seconds = (performance.now() - began) / 1_000
  posts.sort((a, b) => a - b)
  const quantile = (q: number) => round(posts[Math.floor(posts.length * q)] ?? 0)
  return {
    'post p50 ms': quantile(0.5),
    'post p99 ms': quantile(0.99),
    'prompts a second': Math.round(count / seconds),
  }
}

async function remaining(url: string): Promise<number> {
  const answer = (await (await fetch(`${url}/prompt`)).json()) as { exec_info: { queue_remaining: number } }
  return answer.exec_info.queue_remaining
}

const round = (value: number) => Math.round(value * 100) / 100

const workers = await startSimulatedFleet(4)
const rows: Record<string, Figures> = {}
const [first] = workers
if (first) rows['one worker, without the gateway'] = await measure(first.url, 0)
let offset = count
for (const [name, env] of [
  ['memory', { STORE: 'memory' }],
  ['sqlite, SQLITE_SYNC=normal', { STORE: 'sqlite', SQLITE_SYNC: 'normal' }],
  ['sqlite, SQLITE_SYNC=full', { STORE: 'sqlite', SQLITE_SYNC: 'full' }],
] as const) {
  for (const fleet of [1, 4]) {
    const dir = mkdtempSync(join(tmpdir(), 'bench-gateway-'))
    const urls = workers.slice(0, fleet).map(({ url }) => url)
    const config = loadConfig({
      env: { ...env, PORT: '0', EDITOR_PORT: '0', DATA_DIR: dir, LOG_LEVEL: 'error', WORKERS: urls.join(' ') },
      cwd: dir,
    })
    const gateway = await createApp(config, { log: pino({ level: 'error' }) })
    const url = await gateway.listen()
    while (!gateway.workers().every((worker) => worker.isUp)) await new Promise((resolve) => setTimeout(resolve, 20))
    rows[`${fleet} ${fleet === 1 ? 'worker' : 'workers'}, ${name}`] = await measure(url, offset)
    offset += count
    await gateway.close()
    rmSync(dir, { recursive: true, force: true })
  }
}
console.log(
  `${count} prompts of no length from ${lanes} lanes; client, gateway and simulated workers share this process`,
)
console.table(rows)
await Promise.all(workers.map((worker) => worker.close()))
