import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createComfyClient } from '../../src/comfyui/client.ts'
import { createEndpoint } from '../../src/comfyui/endpoint.ts'
import { createSimulatedWorker, type SimulatedWorker } from '../../src/demo/simulated-worker.ts'
import type { BlobStore } from '../../src/files/blobs/blobs.ts'
import { openDiskBlobs } from '../../src/files/blobs/disk.ts'
import { OutputCopies, type OutputCopiesOptions } from '../../src/files/outputs.ts'
import { createPromptEvents } from '../../src/queue/events.ts'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import type { OutputFile } from '../../src/store/store.ts'
import { Worker } from '../../src/workers/worker.ts'
import { configOf } from '../../src/workers/worker-records.ts'
import { until } from '../support/app.ts'

let folder: string
let blobs: BlobStore
let simulated: SimulatedWorker
let worker: Worker
const store = createMemoryStore()
const events = createPromptEvents()
const open: OutputCopies[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'comfyfleet-copies-'))
  blobs = await openDiskBlobs({ folder })
  simulated = await createSimulatedWorker()
  const seed = { url: simulated.url, weight: 1, slots: 1, tags: [], headers: {}, metadata: {} }
  const client = createComfyClient({
    endpoint: createEndpoint(simulated.url, { auth: undefined, headers: {}, ca: undefined }),
    connectTimeoutMs: 500,
    requestTimeoutMs: 2_000,
  })
  worker = new Worker(configOf(seed, { isConfigured: true }), client, { prefetch: 1 })
})
afterEach(async () => {
  for (const copies of open.splice(0)) await copies.close()
  for (const { id } of await store.records.list('output-copies')) await store.records.delete('output-copies', id)
  await worker.client.close()
  await simulated.close()
  await rm(folder, { recursive: true, force: true })
})

async function openCopies(options: Partial<OutputCopiesOptions> = {}): Promise<OutputCopies> {
  const copies = new OutputCopies({
    records: store.records,
    blobs,
    events,
    store: store.prompts,
    registry: { get: (id) => (id === worker.id ? worker : undefined) },
    maxBytes: 1_000,
    isUsedElsewhere: async () => false,
    untouchedMs: 0,
    retryMs: [1, 1],
    now: Date.now,
    log: pino({ level: 'silent' }),
    ...options,
  })
  open.push(copies)
  await copies.load()
  return copies
}

const fileNamed = (filename: string): OutputFile => ({
  token: worker.config.token,
  workerId: worker.id,
  type: 'output',
  subfolder: '',
  filename,
})

/** The worker has made a file, and the prompt that did has finished. */
function made(filename: string, content: Buffer | string): OutputFile {
  simulated.files.put('output', '', filename, Buffer.from(content))
  const file = fileNamed(filename)
  announce(file)
  return file
}

function announce(file: OutputFile): void {
  const prompt = { promptId: 'p', owner: 'open', caller: 'c', clientId: undefined }
  events.publish({ kind: 'finished', prompt, messages: [], files: [file] })
}

async function contentOf(copies: OutputCopies, file: OutputFile): Promise<string | undefined> {
  const hash = await copies.find(file)
  const blob = hash === undefined ? undefined : await blobs.open(hash)
  return blob && Buffer.concat(await blob.stream().toArray()).toString()
}

async function blobCount(): Promise<number> {
  let count = 0
  for await (const _ of blobs.list()) count++
  return count
}

const views = () => simulated.ledger.requests.filter(({ path }) => path.startsWith('/view')).length

describe('copies of outputs', () => {
  it('drop what was not used for the longest time when they need more than their room', async () => {
    const copies = await openCopies()
    const [first, second] = [made('1.bin', Buffer.alloc(400, 1)), made('2.bin', Buffer.alloc(400, 2))]
    await copies.idle()
    expect(copies.bytes).toBe(800)
    expect(await copies.find(first)).toBeDefined() // Used after the second.
    const third = made('3.bin', Buffer.alloc(400, 3))
    await copies.idle()
    expect(
      await Promise.all([first, second, third].map(async (file) => (await copies.find(file)) !== undefined)),
    ).toEqual([true, false, true])
    expect(copies.bytes).toBe(800)
    expect(await blobCount()).toBe(2)
    expect(await store.records.list('output-copies')).toHaveLength(2)
  })

  it('count the same content once, and keep it until the last name is gone', async () => {
    const copies = await openCopies()
    const twins = [made('a.bin', Buffer.alloc(600, 1)), made('b.bin', Buffer.alloc(600, 1))]
    await copies.idle()
    expect(copies.bytes).toBe(600)
    made('c.bin', Buffer.alloc(390, 2))
    await copies.idle()
    expect([copies.bytes, await blobCount()]).toEqual([990, 2])
    expect(await copies.find(twins[1] as OutputFile)).toBeDefined() // Now the other twin is the oldest.
    made('d.bin', Buffer.alloc(10, 3))
    await copies.idle()
    expect(copies.bytes).toBe(1_000)
    made('e.bin', Buffer.alloc(10, 4))
    await copies.idle()
    // The first twin went without freeing anything, then what came after it.
    expect(await Promise.all(twins.map(async (twin) => (await copies.find(twin)) !== undefined))).toEqual([false, true])
    expect([copies.bytes, await blobCount()]).toEqual([620, 3])
  })

  it('leave the bytes where an upload has the same content', async () => {
    const shared = await blobs.put(Readable.from([Buffer.alloc(800, 1)]), { maxBytes: 800 })
    const copies = await openCopies({ isUsedElsewhere: async (hash) => hash === shared.hash })
    const first = made('a.bin', Buffer.alloc(800, 1))
    await copies.idle()
    made('b.bin', Buffer.alloc(800, 2))
    await copies.idle()
    expect(await copies.find(first)).toBeUndefined()
    expect(await blobs.open(shared.hash)).toBeDefined()
  })

  it('are known to the next process, the least recently used first', async () => {
    let now = 1_000_000
    const first = await openCopies({ now: () => now })
    const files: OutputFile[] = []
    for (const n of [1, 2, 3]) {
      now += 1_000
      files.push(made(`${n}.bin`, Buffer.alloc(300, n)))
      await first.idle()
    }
    now += 3_600_000
    await first.find(files[0] as OutputFile) // The time of use is stored.
    await first.close()
    const next = await openCopies({ maxBytes: 600, now: () => now })
    await next.idle()
    expect(await Promise.all(files.map(async (file) => (await next.find(file)) !== undefined))).toEqual([
      true,
      false,
      true,
    ])
  })

  it('take nothing that is larger than all of their room, and nothing at all with no room', async () => {
    const copies = await openCopies()
    const large = made('large.bin', Buffer.alloc(1_001))
    await copies.idle()
    expect(await copies.find(large)).toBeUndefined()
    await copies.close()
    const asked = views()
    const off = await openCopies({ maxBytes: 0 })
    made('small.bin', 'x')
    await off.idle()
    expect(views()).toBe(asked)
    expect(await blobCount()).toBe(0)
  })

  it('are tried again when the worker stumbles, and follow a file that was written anew', async () => {
    const copies = await openCopies()
    simulated.faults.set('GET /view', { kind: 'reset-before' }, { times: 2 })
    const file = made('x.bin', 'first')
    await until(async () => (await contentOf(copies, file)) === 'first')
    announce(file)
    await copies.idle()
    expect(await contentOf(copies, file)).toBe('first')
    made('x.bin', 'second')
    await until(async () => (await contentOf(copies, file)) === 'second')
    expect(copies.bytes).toBe('second'.length)
  })

  it('do not take a file that had been given another token by the time', async () => {
    const copies = await openCopies({
      store: {
        newestOnWorker: async () => ({
          ...fileNamed('x.bin'),
          token: `${worker.config.token}-2`,
          owner: 'open',
          promptId: 'later',
          sequence: 2,
        }),
      },
    })
    const file = made('x.bin', 'of another prompt')
    await copies.idle()
    expect(views()).toBe(1)
    expect(await copies.find(file)).toBeUndefined()
  })
})
