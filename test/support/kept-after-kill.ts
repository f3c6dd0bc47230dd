import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { expect } from 'vitest'
import type { Store } from '../../src/store/store.ts'

const script = new URL('./admit-until-killed.ts', import.meta.url).pathname

/** Lets a child process write to the store at `place`, kills it after some answers, and gives every whole line it printed. */
export async function writeAndKill(place: string, round: number): Promise<string[]> {
  const child = spawn(process.execPath, ['--import', 'tsx', script, place, String(round)], {
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

/** Everything that was printed is in the store, and what is in the store is whole. */
export async function expectKept(store: Store, printed: readonly string[]): Promise<void> {
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
}
