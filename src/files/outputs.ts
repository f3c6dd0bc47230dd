import { createHash } from 'node:crypto'
import PQueue from 'p-queue'
import type { Logger } from 'pino'
import type { PromptEvents } from '../queue/events.ts'
import type { JsonValue, OutputFile, PromptStore, RecordStore, StoredRecord, WorkerId } from '../store/store.ts'
import type { WorkerRegistry } from '../workers/registry.ts'
import { type BlobHash, type BlobStore, BlobTooLargeError } from './blobs/blobs.ts'
import { copyFromWorker } from './worker-files.ts'

/** What is stored of a copy. */
interface StoredCopy extends OutputFile {
  hash: BlobHash
  /** Bytes. */
  size: number
  /** The worker's own mark of the content. */
  etag: string | null
  /** Milliseconds since the epoch; written now and then. */
  usedAt: number
}

export interface OutputCopiesOptions {
  records: RecordStore
  blobs: BlobStore
  events: Pick<PromptEvents, 'subscribe'>
  store: Pick<PromptStore, 'newestOnWorker'>
  registry: Pick<WorkerRegistry, 'get'>
  /** Bytes of all copies together, each content counted once; 0 copies nothing. */
  maxBytes: number
  /** True when something else than a copy needs the content. */
  isUsedElsewhere(hash: BlobHash): Promise<boolean>
  /** Milliseconds since a blob was put before it is deleted; a use of it may not be written down before. */
  untouchedMs?: number
  /** Milliseconds before each further try of a copy that failed. */
  retryMs?: readonly number[]
  /** Milliseconds since the epoch. */
  now: () => number
  log: Logger
}

const COLLECTION = 'output-copies'
/** Files at the same time from one worker. */
const PARALLEL = 2
const UNTOUCHED_MS = 60_000
const RETRY_MS = [1_000, 5_000, 30_000]
/** How far the stored time of use may lag behind. */
const USE_LAG_MS = 600_000

type FileName = Pick<OutputFile, 'token' | 'type' | 'subfolder' | 'filename'>

/**
 * Copies of what finished prompts have made, so that it outlives the worker and its disk. When they need more than their
 * room, those that were not used for the longest time go first.
 */
export class OutputCopies {
  readonly #options: Required<OutputCopiesOptions>
  /** Least recently used first. */
  readonly #copies = new Map<string, StoredCopy>()
  /** How many copies have a content. */
  readonly #counts = new Map<BlobHash, number>()
  readonly #queues = new Map<WorkerId, PQueue>()
  readonly #retries = new Set<NodeJS.Timeout>()
  readonly #stop = new AbortController()
  readonly #unsubscribe: () => void
  #bytes = 0
  #evicting: Promise<void> = Promise.resolve()

  constructor(options: OutputCopiesOptions) {
    this.#options = { untouchedMs: UNTOUCHED_MS, retryMs: RETRY_MS, ...options }
    this.#unsubscribe = options.events.subscribe((event) => {
      if (event.kind === 'finished' && options.maxBytes > 0) this.#take(event.files ?? [])
    })
  }

  /** Bytes of all copies, each content counted once. */
  get bytes(): number {
    return this.#bytes
  }

  /** Reads what a former process has copied; before the first request. */
  async load(): Promise<void> {
    const stored = (await this.#options.records.list(COLLECTION)).map(read)
    for (const copy of stored.toSorted((a, b) => a.usedAt - b.usedAt)) this.#remember(copy)
    await this.#evict()
  }

  /** The content of a worker's file, if it was copied; it counts as used then. */
  async find(file: FileName): Promise<BlobHash | undefined> {
    if (this.#options.maxBytes === 0) return undefined
    const copy = this.#copies.get(idOf(file))
    if (copy) this.#use(copy)
    return copy?.hash
  }

  isUsed(hash: BlobHash): boolean {
    return this.#counts.has(hash)
  }

  /** Resolves when nothing is being copied. */
  async idle(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.onIdle()))
    await this.#evicting
  }

  /** Ends what is being copied. */
  async close(): Promise<void> {
    this.#unsubscribe()
    this.#stop.abort()
    for (const timer of this.#retries) clearTimeout(timer)
    for (const queue of this.#queues.values()) queue.clear()
    await this.idle()
  }

  #take(files: readonly OutputFile[]): void {
    for (const file of files) this.#enqueue(file, 0)
  }

  #enqueue(file: OutputFile, tries: number): void {
    let queue = this.#queues.get(file.workerId)
    if (!queue) {
      queue = new PQueue({ concurrency: PARALLEL })
      this.#queues.set(file.workerId, queue)
    }
    void queue.add(async () => {
      try {
        await this.#copy(file)
      } catch (error) {
        this.#copyFailed(file, tries, error)
      }
    })
  }

  async #copy(file: OutputFile): Promise<void> {
    const { registry, blobs, store, records, maxBytes, now } = this.#options
    const worker = registry.get(file.workerId)
    if (!worker || this.#stop.signal.aborted) return
    const { token, workerId, type, subfolder, filename } = file
    const before = this.#copies.get(idOf(file))
    const copied = await copyFromWorker(
      worker,
      { type, subfolder, filename },
      { blobs, maxBytes, signal: this.#stop.signal, ...(before?.etag ? { knownEtag: before.etag } : {}) },
    )
    if (copied === 'same' && before) return this.#use(before)
    if (copied === 'same' || copied === undefined) return
    // Overwritten before it was copied: under this token it is another file now.
    const newest = await store.newestOnWorker({ workerId, type, subfolder, filename })
    if (newest && newest.token !== token) return
    const { hash, size, etag } = copied
    const copy: StoredCopy = {
      token,
      workerId,
      type,
      subfolder,
      filename,
      hash,
      size,
      etag: etag ?? null,
      usedAt: now(),
    }
    await records.put(COLLECTION, toRecord(copy))
    this.#forget(copy)
    this.#remember(copy)
    await this.#evict()
  }

  #copyFailed(file: OutputFile, tries: number, error: unknown): void {
    if (this.#stop.signal.aborted) return
    const { log, retryMs } = this.#options
    const pauseMs = error instanceof BlobTooLargeError ? undefined : retryMs[tries]
    if (pauseMs === undefined) {
      log.warn({ workerId: file.workerId, err: error }, 'an output could not be copied from its worker')
      return
    }
    const timer = setTimeout(() => {
      this.#retries.delete(timer)
      this.#enqueue(file, tries + 1)
    }, pauseMs)
    timer.unref()
    this.#retries.add(timer)
  }

  #remember(copy: StoredCopy): void {
    this.#copies.set(idOf(copy), copy)
    const count = this.#counts.get(copy.hash) ?? 0
    if (count === 0) this.#bytes += copy.size
    this.#counts.set(copy.hash, count + 1)
  }

  #forget(file: FileName): StoredCopy | undefined {
    const copy = this.#copies.get(idOf(file))
    if (!copy) return undefined
    this.#copies.delete(idOf(file))
    const count = this.#counts.get(copy.hash) ?? 1
    if (count > 1) this.#counts.set(copy.hash, count - 1)
    else {
      this.#counts.delete(copy.hash)
      this.#bytes -= copy.size
    }
    return copy
  }

  #use(copy: StoredCopy): void {
    const id = idOf(copy)
    if (!this.#copies.delete(id)) return
    const { now, records, log } = this.#options
    const at = now()
    const isStale = at - copy.usedAt > USE_LAG_MS
    const used = isStale ? { ...copy, usedAt: at } : copy
    this.#copies.set(id, used)
    if (!isStale) return
    records.put(COLLECTION, toRecord(used)).catch((error: unknown) => {
      log.debug({ err: error }, 'the use of an output was not stored')
    })
  }

  /** One at a time: two would take the same oldest one. */
  #evict(): Promise<void> {
    this.#evicting = this.#evicting
      .then(() => this.#evictOldest())
      .catch((error: unknown) => {
        this.#options.log.warn({ err: error }, 'old copies of outputs could not be removed')
      })
    return this.#evicting
  }

  async #evictOldest(): Promise<void> {
    const { records, blobs, maxBytes, isUsedElsewhere, untouchedMs } = this.#options
    while (this.#bytes > maxBytes) {
      const oldest = this.#copies.values().next().value
      if (!oldest) return
      // First the record: a blob without one is swept, a record without its blob would be a lie.
      await records.delete(COLLECTION, idOf(oldest))
      this.#forget(oldest)
      if (this.#counts.has(oldest.hash) || (await isUsedElsewhere(oldest.hash))) continue
      if (!this.#counts.has(oldest.hash)) await blobs.delete(oldest.hash, { untouchedMs })
    }
  }
}

/** Of one length and without letters that a database could take for one another. */
const idOf = ({ token, type, subfolder, filename }: FileName): string =>
  createHash('sha256').update(`${token}\0${type}\0${subfolder}\0${filename}`).digest('hex')

const toRecord = (copy: StoredCopy) => ({ id: idOf(copy), value: { ...copy } satisfies JsonValue, index: copy.hash })

/** The collection is written by this module alone. */
const read = (record: StoredRecord): StoredCopy => record.value as unknown as StoredCopy
