import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createRedisStore } from '../../src/store/redis/redis.ts'
import { describeWithRedis } from '../support/describe-with-redis.ts'
import { type RedisServer, startRedis } from '../support/redis-server.ts'

const script = new URL('../support/admit-until-killed.ts', import.meta.url).pathname

describeWithRedis('Redis and kill -9', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server?.stop())

  /** Lets a child write, kills it or the server after some answers, and gives every whole line it printed. */
  async function writeAndKill(victim: 'gateway' | 'server', round: number): Promise<string[]> {
    const child = spawn(process.execPath, ['--import', 'tsx', script, server.url, String(round)], {
      stdio: ['ignore', 'pipe', victim === 'gateway' ? 'inherit' : 'ignore'],
    })
    const closed = once(child, 'close')
    const lines: string[] = []
    const killAfter = 50 + Math.floor(Math.random() * 1500)
    const kill = () => (victim === 'gateway' ? child.kill('SIGKILL') : void server.kill())
    for await (const line of createInterface({ input: child.stdout })) {
      lines.push(line)
      // A little later than the line that was waited for, at no particular point of a verb.
      if (lines.length === killAfter) setTimeout(kill, Math.random() * 5)
    }
    const [code, signal] = await closed
    expect([code, signal]).toEqual(victim === 'gateway' ? [null, 'SIGKILL'] : [1, null])
    if (victim === 'server') await server.start()
    // The last one may have been cut in the middle of its id.
    return lines.slice(0, -1)
  }

  it('has everything that was answered before either was killed, and nothing by half', {
    timeout: 60_000,
  }, async () => {
    const printed: string[] = []
    for (let round = 0; round < 6; round += 1) {
      printed.push(...(await writeAndKill(round % 2 === 0 ? 'gateway' : 'server', round)))
      const store = await createRedisStore({ url: server.url, prefix: 'crash', timeoutMs: 10_000 })
      const missing: string[] = []
      for (const line of printed) {
        const [word, promptId = ''] = line.split(' ')
        const record = await store.prompts.get(promptId)
        const kept = word === 'finished' ? record?.status === 'succeeded' : record !== undefined
        if (!kept) missing.push(line)
      }
      expect(missing).toEqual([])
      const unfinished = await store.prompts.unfinished()
      const bodies = await store.prompts.readBodies(unfinished.map((prompt) => prompt.promptId))
      expect(bodies.size).toBe(unfinished.length)
      for (const [promptId, body] of bodies) expect(JSON.parse(body.text).prompt).toBe(promptId)
      const history = await store.prompts.history({ owner: undefined, maxItems: undefined, offset: undefined })
      for (const entry of history) expect(JSON.parse(entry.text).prompt).toBe(entry.promptId)
      const every = { owner: undefined, statuses: [], workflowId: undefined, sortBy: 'created_at' } as const
      const { total } = await store.prompts.list({ ...every, descending: false, limit: 0, offset: 0 })
      expect(total).toBe(unfinished.length + history.length)
      await store.close()
    }
    expect(printed.length).toBeGreaterThan(6)
  })
})
