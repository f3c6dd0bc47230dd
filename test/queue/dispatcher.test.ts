import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import type { ComfyClient } from '../../src/comfyui/client.ts'
import { reduceObjectInfo } from '../../src/comfyui/object-info.ts'
import { Dispatcher } from '../../src/queue/dispatcher.ts'
import { createPromptEvents } from '../../src/queue/events.ts'
import { PromptQueue } from '../../src/queue/queue.ts'
import { leastLoaded } from '../../src/scheduler/least-loaded.ts'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import type { WorkerRegistry } from '../../src/workers/registry.ts'
import { Worker } from '../../src/workers/worker.ts'
import { configOf } from '../../src/workers/worker-records.ts'
import { aPrompt } from '../support/prompts.ts'

const infoOf = (classType: string) =>
  reduceObjectInfo(JSON.stringify({ [classType]: { input: { required: {} }, output: [], name: classType } }))

/** A healthy worker that knows one class; nothing is ever called there. */
function aWorker(n: number, info: ReturnType<typeof infoOf>): Worker {
  const seed = { url: `http://10.0.0.1:${n}`, weight: 1, slots: 1, tags: [], headers: {}, metadata: {} }
  const unused = {} as ComfyClient // Nothing is sent in these tests.
  const worker = new Worker(configOf(seed, { isConfigured: true }), unused, {
    prefetch: 0,
  })
  worker.state = { kind: 'healthy' }
  worker.info = info
  return worker
}

describe('offering a long line to a large fleet', () => {
  it('says of each of 10,000 prompts why it waits, in one turn, while 150 other workers are free', async () => {
    const [known, other] = [infoOf('KSampler'), infoOf('Other')]
    const workers = Array.from({ length: 300 }, (_, n) => aWorker(n + 1, n % 2 === 0 ? known : other))
    for (const worker of workers) if (worker.info === known) worker.reserve('busy', 'busy')
    const { prompts: store } = createMemoryStore()
    const events = createPromptEvents()
    const log = pino({ level: 'silent' })
    const queue = new PromptQueue({ store, events, maxQueue: 20_000, idempotencyMs: 0, log })
    for (let n = 0; n < 10_000; n++) await queue.admit(aPrompt({ promptId: `p${n}` }))
    const registry: Pick<WorkerRegistry, 'list' | 'get' | 'supervisor'> = {
      list: () => workers,
      get: () => undefined,
      supervisor: () => undefined,
    }
    const dispatcher = new Dispatcher({
      queue,
      store,
      events,
      registry: registry as WorkerRegistry, // Only these are asked.
      inputs: {
        deliver: async () => ({ literals: new Map(), images: new Map(), isFromMemory: true }),
        forget: () => undefined,
      },
      disks: { tokenFor: async () => 'token' },
      sealer: { seal: (text) => text, open: (text) => text },
      policy: leastLoaded,
      settings: { maxAttempts: 3, maxWorkerDeaths: 2, rerunPaid: false, stallMs: 0 },
      promptTimeoutMs: 1_000,
      fence: () => 1,
      tellAll: () => undefined,
      log,
      now: () => performance.now(),
      signal: new AbortController().signal,
    })
    dispatcher.wake()
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    expect([...queue.waiting].every(({ waitReason }) => waitReason !== undefined)).toBe(true)
  })
})
