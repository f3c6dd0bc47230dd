import type { Identity } from '../auth/identity.ts'
import { quotePython } from '../comfyui/python-json.ts'
import type { PromptBody, PromptRecord, PromptStore } from '../store/store.ts'
import { BoundedCache } from './bounded-cache.ts'
import { createBreather } from './breather.ts'
import { promptTuple } from './outcome.ts'
import { sees } from './prompt.ts'
import { shownParts } from './prompt-body.ts'
import type { PromptQueue } from './queue.ts'

/** Entries of the caller that carry their graph; all others carry `{}`. */
const GRAPHS_SHOWN = 100
/** Bodies read at once, and characters of graphs in one answer. */
const BODIES_AT_ONCE = 8
const MAX_GRAPH_CHARS = 32 * 1024 * 1024
const MAX_ANSWER_BYTES = 64 * 1024 * 1024
const MAX_ENTRY_CHARS = 32 * 1024 * 1024

interface Answer {
  revision: number
  bytes: Buffer
}

/**
 * `queue_running` and `queue_pending` as a caller sees them. An answer is made anew only when the queue has changed
 * since, so that polling a long queue costs nothing; making one pauses often enough to let others run.
 */
export class QueueListing {
  readonly #queue: Pick<PromptQueue, 'all' | 'waiting' | 'revision'>
  readonly #store: Pick<PromptStore, 'readBodies'>
  readonly #sliceMs: number | undefined
  readonly #answers = new BoundedCache<Answer>({ maxBytes: MAX_ANSWER_BYTES })
  readonly #underWay = new Map<string, { revision: number; bytes: Promise<Buffer> }>()
  /** Entries with graph, by upstream id, which stands for one use of a prompt id. */
  readonly #full = new BoundedCache<string>({ maxBytes: MAX_ENTRY_CHARS })
  /** Entries without graph. A record is replaced whenever it changes. */
  readonly #light = new WeakMap<PromptRecord, string>()

  constructor(options: {
    queue: Pick<PromptQueue, 'all' | 'waiting' | 'revision'>
    store: Pick<PromptStore, 'readBodies'>
    /** Milliseconds of work in one go. */
    sliceMs?: number
  }) {
    this.#queue = options.queue
    this.#store = options.store
    this.#sliceMs = options.sliceMs
  }

  /**
   * JSON members `"queue_running": […], "queue_pending": […]`, as they are now or later: what the owner has, in the
   * order it will run, what is on its way to a worker first. Throws StoreUnavailableError.
   */
  async members(identity: Identity): Promise<Buffer> {
    const key = JSON.stringify([identity.owner, identity.caller])
    const asked = this.#queue.revision
    for (;;) {
      const known = this.#answers.get(key)
      if (known && known.revision >= asked) return known.bytes
      const other = this.#underWay.get(key)
      if (!other) return this.#make(key, identity)
      if (other.revision >= asked) return other.bytes
      await other.bytes
    }
  }

  #make(key: string, identity: Identity): Promise<Buffer> {
    const { revision } = this.#queue
    const bytes = this.#build(identity)
      .then((made) => {
        this.#answers.set(key, { revision, bytes: made }, made.length)
        return made
      })
      .finally(() => this.#underWay.delete(key))
    this.#underWay.set(key, { revision, bytes })
    return bytes
  }

  async #build(identity: Identity): Promise<Buffer> {
    const running: PromptRecord[] = []
    const pending: PromptRecord[] = []
    for (const { record } of this.#queue.all()) {
      if (!record.admitted || !sees(identity, record.owner)) continue
      if (record.status === 'running') running.push(record)
      else if (record.status === 'dispatching') pending.push(record)
    }
    for (const { record } of this.#queue.waiting) if (sees(identity, record.owner)) pending.push(record)

    const full = await this.#fullEntries([...running, ...pending].filter(({ caller }) => caller === identity.caller))
    const breathe = createBreather(this.#sliceMs)
    const print = async (records: readonly PromptRecord[]): Promise<Buffer> => {
      const texts: string[] = []
      for (const record of records) {
        texts.push(full.get(record) ?? this.#lightEntry(record))
        const pause = breathe()
        if (pause) await pause
      }
      return Buffer.from(texts.join(', '))
    }
    return Buffer.concat([
      Buffer.from('"queue_running": ['),
      await print(running),
      Buffer.from('], "queue_pending": ['),
      await print(pending),
      Buffer.from(']'),
    ])
  }

  async #fullEntries(own: readonly PromptRecord[]): Promise<Map<PromptRecord, string>> {
    const breathe = createBreather(this.#sliceMs)
    const entries = new Map<PromptRecord, string>()
    const shown = own.slice(0, GRAPHS_SHOWN)
    let chars = 0
    for (let at = 0; at < shown.length && chars < MAX_GRAPH_CHARS; at += BODIES_AT_ONCE) {
      const batch = shown.slice(at, at + BODIES_AT_ONCE)
      const missing = batch.filter(({ upstreamId }) => this.#full.get(upstreamId) === undefined)
      const bodies: ReadonlyMap<string, PromptBody> =
        missing.length > 0 ? await this.#store.readBodies(missing.map(({ promptId }) => promptId)) : new Map()
      for (const record of batch) {
        const entry = this.#full.get(record.upstreamId) ?? this.#fullEntry(record, bodies.get(record.promptId))
        if (entry === undefined) continue
        chars += entry.length
        if (chars > MAX_GRAPH_CHARS) break
        entries.set(record, entry)
        const pause = breathe()
        if (pause) await pause
      }
    }
    return entries
  }

  /** Undefined when the prompt ended and was forgotten meanwhile. */
  #fullEntry(record: PromptRecord, body: PromptBody | undefined): string | undefined {
    if (!body) return undefined
    const entry = promptTuple(record, shownParts(body.text, record.clientId, record.createdAt))
    this.#full.set(record.upstreamId, entry, entry.length)
    return entry
  }

  #lightEntry(record: PromptRecord): string {
    const known = this.#light.get(record)
    if (known !== undefined) return known
    const client = record.clientId === undefined ? '' : `"client_id": ${quotePython(record.clientId)}, `
    const entry = promptTuple(record, { graph: '{}', extraData: `{${client}"create_time": ${record.createdAt}}` })
    this.#light.set(record, entry)
    return entry
  }
}
