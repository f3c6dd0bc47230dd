import { quotePython } from '../comfyui/python-json.ts'
import { member, parseJson } from '../comfyui/raw-json.ts'
import type { PromptId, PromptStore } from '../store/store.ts'
import { BoundedCache } from './bounded-cache.ts'
import { createBreather } from './breather.ts'
import type { PromptEvents } from './events.ts'

/** Which entries, as `GET /history` asks for them. */
export interface HistoryQuery {
  owner: string
  maxItems: number | undefined
  offset: number | undefined
}

export interface PromptHistoryOptions {
  store: PromptStore
  events: Pick<PromptEvents, 'subscribe'>
  /** Entries in a listing that names no number. */
  listLimit: number
}

/** Entries in one listing, whatever it asks for: graphs can be large, and a listing is made in memory. */
const MAX_LISTED = 1_000
const MAX_PAGE_BYTES = 64 * 1024 * 1024
const MAX_ENTRY_CHARS = 32 * 1024 * 1024
const LOCAL_URL = /"url"\s*:\s*"(?=\/api\/view\?)/g

interface Page {
  revision: number
  bytes: Buffer
}

/**
 * What ended, as clients see it. Listings are kept as bytes until the history changes, so that clients which poll for
 * the whole of it cost nothing. `url`s of files are stored without a host and get the one that the client used.
 */
export class PromptHistory {
  readonly #store: PromptStore
  readonly #listLimit: number
  readonly #unsubscribe: () => void
  #revision = 0
  readonly #pages = new BoundedCache<Page>({ maxBytes: MAX_PAGE_BYTES })
  readonly #underWay = new Map<string, { revision: number; bytes: Promise<Buffer> }>()
  /** Where hosts go into the entries listed last; to look for them anew means to parse whole graphs. */
  readonly #hostOffsets = new BoundedCache<{ text: string; offsets: readonly number[] }>({ maxBytes: MAX_ENTRY_CHARS })

  constructor(options: PromptHistoryOptions) {
    this.#store = options.store
    this.#listLimit = options.listLimit
    this.#unsubscribe = options.events.subscribe(({ kind }) => {
      if (kind === 'finished') this.changed()
    })
  }

  /** Grows with every change that a listing would show. */
  get revision(): number {
    return this.#revision
  }

  /** Entries came or went otherwise than by an event (pruning). */
  changed(): void {
    this.#revision++
  }

  /**
   * The answer of `GET /history`: JSON by prompt id, oldest first. Without `maxItems` at most the list limit, never more
   * than 1,000 entries. `baseUrl`: scheme and host for `url`s, empty for none.
   */
  async page(query: HistoryQuery, baseUrl: string): Promise<Buffer> {
    const maxItems = Math.min(query.maxItems ?? this.#listLimit, MAX_LISTED)
    const key = JSON.stringify([query.owner, maxItems, query.offset, baseUrl])
    const asked = this.#revision
    for (;;) {
      const known = this.#pages.get(key)
      if (known && known.revision >= asked) return known.bytes
      const other = this.#underWay.get(key)
      if (!other) return this.#make(key, { ...query, maxItems }, baseUrl)
      if (other.revision >= asked) return other.bytes
      await other.bytes
    }
  }

  /** Text of one entry; undefined while the prompt has not ended, when it left no entry, or when it is not the owner's. */
  async entry(promptId: PromptId, owner: string, baseUrl: string): Promise<string | undefined> {
    const [record, entry] = await Promise.all([this.#store.get(promptId), this.#store.historyEntry(promptId)])
    if (!record?.admitted || record.owner !== owner || !entry) return undefined
    return withBaseUrl(entry.text, hostOffsets(entry.text), baseUrl)
  }

  /** Removes entries of the owner; unknown ids are ignored. */
  async remove(promptIds: readonly PromptId[], owner: string): Promise<void> {
    if (promptIds.length === 0) return
    await this.#store.deleteHistory({ promptIds, owner })
    this.changed()
  }

  /** Removes all entries of what this caller submitted. */
  async clear(caller: string): Promise<void> {
    await this.#store.clearHistory({ caller })
    this.changed()
  }

  /** Listens no more. */
  close(): void {
    this.#unsubscribe()
  }

  #make(key: string, query: HistoryQuery, baseUrl: string): Promise<Buffer> {
    const revision = this.#revision
    const bytes = this.#build(query, baseUrl)
      .then((made) => {
        this.#pages.set(key, { revision, bytes: made }, made.length)
        return made
      })
      .finally(() => this.#underWay.delete(key))
    this.#underWay.set(key, { revision, bytes })
    return bytes
  }

  async #build(query: HistoryQuery, baseUrl: string): Promise<Buffer> {
    const entries = await this.#store.history(query)
    const parts: Buffer[] = [Buffer.from('{')]
    const breathe = createBreather()
    for (const [index, { promptId, text }] of entries.entries()) {
      const shown = withBaseUrl(text, this.#offsetsOf(promptId, text), baseUrl)
      parts.push(Buffer.from(`${index > 0 ? ', ' : ''}${quotePython(promptId)}: ${shown}`))
      const pause = breathe()
      if (pause) await pause
    }
    parts.push(Buffer.from('}'))
    return Buffer.concat(parts)
  }

  #offsetsOf(promptId: PromptId, text: string): readonly number[] {
    const known = this.#hostOffsets.get(promptId)
    if (known?.text === text) return known.offsets
    const offsets = hostOffsets(text)
    this.#hostOffsets.set(promptId, { text, offsets }, text.length)
    return offsets
  }
}

/** Where a host belongs in the text of an entry: its outputs only, for the graph is the client's own. */
function hostOffsets(text: string): readonly number[] {
  if (!text.includes('/api/view?')) return []
  const outputs = member(parseJson(text), 'outputs')
  if (!outputs) return []
  const source = text.slice(outputs.start, outputs.end)
  return [...source.matchAll(LOCAL_URL)].map((found) => outputs.start + found.index + found[0].length)
}

function withBaseUrl(text: string, offsets: readonly number[], baseUrl: string): string {
  if (offsets.length === 0 || baseUrl === '') return text
  const base = quotePython(baseUrl).slice(1, -1)
  const parts: string[] = []
  let at = 0
  for (const offset of offsets) {
    parts.push(text.slice(at, offset), base)
    at = offset
  }
  parts.push(text.slice(at))
  return parts.join('')
}
