import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, expect, it } from 'vitest'
import { createSqliteStore } from '../../src/store/sql/sqlite.ts'

const folder = mkdtempSync(join(tmpdir(), 'store-crash-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const script = new URL('../support/admit-until-killed.ts', import.meta.url).pathname

/** Lets a child write, kills it after some answers, and gives every whole line it printed. */
async function writeAndKill(file: string, round: number): Promise<string[]> {
  const child = spawn(process.execPath, ['--import', 'tsx', script, file, String(round)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close')
  const lines: string[] = []
  const killAfter = 50 + Math.floor(Math.random() * 1500)
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line)
    // A little later than the line that was waited for, at no particular point of a transaction.
    if (lines.length === killAfter) setTimeout(() => child.kill('SIGKILL'), Math.random() * 5)
  }
  const [, signal] = await closed
  expect(signal).toBe('SIGKILL')
  // The last one may have been cut in the middle of its id.
  return lines.slice(0, -1)
}

it('has everything that was answered before a kill -9, and opens again', { timeout: 60_000 }, async () => {
  const file = join(folder, 'store.sqlite')
  const printed: string[] = []
  for (let round = 0; round < 5; round += 1) {
    printed.push(...(await writeAndKill(file, round)))
    const store = await createSqliteStore({ file, sync: 'full' })
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
    await store.close()
  }
  expect(printed.length).toBeGreaterThan(5)
})
