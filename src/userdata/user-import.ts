import PQueue from 'p-queue'
import type { Logger } from 'pino'
import { OPEN_OWNER } from '../auth/identity.ts'
import { type ComfyClient, WorkerCallError } from '../comfyui/client.ts'
import { parseJson } from '../comfyui/raw-json.ts'
import type { JsonValue, RecordStore } from '../store/store.ts'
import type { Worker } from '../workers/worker.ts'
import { Once } from './once.ts'
import { BadFileNameError, type UserFiles } from './user-files.ts'
import { pathInside } from './user-path.ts'
import { settingsOf, type UserSettings } from './user-settings.ts'

export interface UserImportOptions {
  records: Pick<RecordStore, 'get' | 'put'>
  settings: UserSettings
  files: UserFiles
  /** Whose user data become the gateway's; undefined while it is not up. */
  uiWorker: { current(): Promise<Pick<Worker, 'config' | 'client'> | undefined> }
  /** Monotonic milliseconds. */
  now: () => number
  log: Logger
  limits?: Partial<ImportLimits>
}

export interface ImportLimits {
  files: number
  bytes: number
  /** How long a request waits for what is being imported. */
  waitMs: number
  /** From the listing to the last file. */
  deadlineMs: number
  retryMs: number
}

const LIMITS: ImportLimits = {
  files: 2_000,
  bytes: 200 * 1024 * 1024,
  waitMs: 10_000,
  deadlineMs: 300_000,
  retryMs: 60_000,
}
const COLLECTION = 'user-import'
const PARALLEL = 2
const MAX_REMOVED = 10_000
/** What the gateway keeps in another place, and what is a worker's own: the configuration of its Manager. */
const NOT_IMPORTED = /^(comfy\.settings\.json$|ComfyUI-Manager\/|__)/

/** A file as a worker lists it. */
interface ListedFile {
  path: string
  sizeBytes: number
  modifiedMs: number | undefined
}

/**
 * Takes over, once, what was kept on a worker before there was a gateway: it becomes the open owner's, and nobody else's,
 * since whoever used that ComfyUI had no key. What was written here before stays.
 */
export class UserImport {
  readonly #options: UserImportOptions
  readonly #limits: ImportLimits
  readonly #settings: Once
  readonly #files: Once
  /** Taken away or renamed before the import was whole; they must not come back. */
  readonly #removed = new Set<string>()

  constructor(options: UserImportOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#settings = this.#once('settings', (worker) => this.#importSettings(worker))
    this.#files = this.#once('files', (worker) => this.#importFiles(worker))
  }

  /** Resolves when the settings are here, or will not be for now. */
  async settingsReady(owner: string): Promise<void> {
    if (owner === OPEN_OWNER) await this.#settings.attempt(this.#limits.waitMs)
  }

  /** Resolves when the files are here, or will not be for now. */
  async filesReady(owner: string): Promise<void> {
    if (owner === OPEN_OWNER) await this.#files.attempt(this.#limits.waitMs)
  }

  /** A user has taken this file or folder away. */
  removed(owner: string, path: string): void {
    if (owner !== OPEN_OWNER || this.#files.isDone || this.#removed.size >= MAX_REMOVED) return
    this.#removed.add(path)
  }

  #isRemoved(path: string): boolean {
    for (const gone of this.#removed) if (path === gone || path.startsWith(`${gone}/`)) return true
    return false
  }

  #once(id: string, work: (worker: Pick<Worker, 'config' | 'client'>) => Promise<JsonValue>): Once {
    const { records, uiWorker, now, log } = this.#options
    return new Once({
      records,
      record: { collection: COLLECTION, id },
      retryMs: this.#limits.retryMs,
      now,
      log,
      work: async () => {
        const worker = await uiWorker.current()
        return worker && this.#notedFrom(worker, id, work)
      },
    })
  }

  async #notedFrom(
    worker: Pick<Worker, 'config' | 'client'>,
    what: string,
    work: (worker: Pick<Worker, 'config' | 'client'>) => Promise<JsonValue>,
  ): Promise<JsonValue> {
    const { log } = this.#options
    const from = { workerId: worker.config.id, url: worker.config.url }
    try {
      const imported = await work(worker)
      log.info({ ...from, what, imported }, 'user data of a worker were taken over')
      return { ...from, imported }
    } catch (error) {
      if (!(error instanceof WorkerCallError) || error.fault !== 'unauthorized') throw error
      // With --multi-user it has people of its own, and none of them is ours.
      log.warn({ ...from, what }, 'this worker does not show its user data; none are taken over')
      return { ...from, imported: null }
    }
  }

  async #importSettings({ client }: Pick<Worker, 'client'>): Promise<JsonValue> {
    const text = await client.getJsonText('/settings')
    const root = text === undefined ? undefined : parseJson(text)
    if (root === undefined) return 0
    if (root.kind !== 'object') throw new WorkerCallError('protocol', 'GET /settings did not answer an object')
    const settings = settingsOf(root)
    if (settings.size > 0) await this.#options.settings.merge(OPEN_OWNER, settings, { keep: true })
    return settings.size
  }

  async #importFiles({ client }: Pick<Worker, 'client'>): Promise<JsonValue> {
    const { log } = this.#options
    const signal = AbortSignal.timeout(this.#limits.deadlineMs)
    const listed = await listFiles(client, signal)
    const wanted = this.#withinLimits(listed.filter(({ path }) => !NOT_IMPORTED.test(path)))
    const queue = new PQueue({ concurrency: PARALLEL })
    let imported = 0
    let leftBytes = this.#limits.bytes
    const take = async (file: ListedFile): Promise<void> => {
      signal.throwIfAborted()
      if (await this.#options.files.stat(OPEN_OWNER, file.path)) return
      const bytes = await readFile(client, file.path, leftBytes, signal)
      if (!bytes || this.#isRemoved(file.path)) return
      leftBytes -= bytes.length
      try {
        const { modifiedMs } = file
        if (await this.#options.files.write(OPEN_OWNER, file.path, bytes, { overwrite: false, modifiedMs })) imported++
      } catch (error) {
        if (!(error instanceof BadFileNameError)) throw error
        log.warn({ path: file.path }, 'a file of a worker cannot have its name here and is left out')
      }
    }
    try {
      await Promise.all(wanted.map((file) => queue.add(() => take(file))))
    } finally {
      queue.clear()
    }
    return imported
  }

  #withinLimits(files: readonly ListedFile[]): ListedFile[] {
    const wanted: ListedFile[] = []
    let bytes = 0
    for (const file of files.slice(0, this.#limits.files)) {
      if (bytes + file.sizeBytes > this.#limits.bytes) continue
      bytes += file.sizeBytes
      wanted.push(file)
    }
    const leftOut = files.length - wanted.length
    if (leftOut > 0) this.#options.log.warn({ leftOut }, 'a worker has more user data than are taken over')
    return wanted
  }
}

/** All files of a worker's user, by path. */
async function listFiles(client: ComfyClient, signal: AbortSignal): Promise<ListedFile[]> {
  const tree = await client.getJsonText('/v2/userdata?path=', { signal })
  // Workers of 2024 have the plain listing only.
  const text = tree ?? (await client.getJsonText('/userdata?dir=.&recurse=true&full_info=true', { signal }))
  const listed: unknown = text === undefined ? [] : JSON.parse(text)
  if (!Array.isArray(listed)) throw new WorkerCallError('protocol', 'the listing of user data is no list')
  const files = listed.flatMap((entry) => listedFile(entry) ?? [])
  return files.toSorted((a, b) => (a.path < b.path ? -1 : 1))
}

function listedFile(entry: unknown): ListedFile | undefined {
  if (typeof entry !== 'object' || entry === null || ('type' in entry && entry.type !== 'file')) return undefined
  const path = 'path' in entry && typeof entry.path === 'string' ? pathInside(entry.path) : undefined
  if (path === undefined || path === '') return undefined
  const sizeBytes = 'size' in entry && typeof entry.size === 'number' ? entry.size : 0
  const modified = 'modified' in entry && typeof entry.modified === 'number' ? entry.modified : undefined
  // Seconds in one listing, milliseconds in the other of later releases.
  const modifiedMs = modified === undefined || modified > 1e11 ? modified : modified * 1_000
  return { path, sizeBytes, modifiedMs }
}

/** Undefined when it is gone by now, or too large. */
async function readFile(
  client: ComfyClient,
  path: string,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  // Decoded once by the server, and once more by ComfyUI when a percent sign is left.
  const name = encodeURIComponent(path.replaceAll('%', '%25'))
  const answer = await client.stream({ method: 'GET', path: `/userdata/${name}` }, { signal })
  try {
    if (answer.status === 403 || answer.status === 404) return undefined
    if (answer.status !== 200) {
      throw new WorkerCallError('protocol', `GET /userdata answered ${answer.status}`, { status: answer.status })
    }
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > maxBytes) return undefined // Larger than it was listed.
      chunks.push(chunk)
    }
    return Buffer.concat(chunks, size)
  } finally {
    answer.body.on('error', () => undefined).destroy()
  }
}
