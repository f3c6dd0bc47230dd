import { executionMs, isEnded, judgeKnownId, newRecord } from '../admission.ts'
import { historyWindow } from '../history-window.ts'
import {
  type Attempt,
  type FinishedOutcome,
  type IndexedFile,
  type JobQuery,
  type LogLine,
  maxLogLines,
  type PromptBody,
  type PromptId,
  type PromptRecord,
  type PromptStore,
} from '../store.ts'
import type { FenceMark } from './fence.ts'

interface Entry {
  record: PromptRecord
  body: PromptBody
  log: LogLine[]
  history: string | undefined
  /** Order of finishing; undefined until then. */
  finishOrder: number | undefined
}

/** The prompts in maps. Each verb runs without a pause, so it is atomic. `now` gives milliseconds since the epoch. */
export function createMemoryPrompts({ now, fence }: { now: () => number; fence: FenceMark }): PromptStore {
  return new MemoryPrompts(now, fence)
}

class MemoryPrompts implements PromptStore {
  readonly #now: () => number
  readonly #fence: FenceMark
  /** In order of sequence, because a replaced prompt is removed first. */
  readonly #entries = new Map<PromptId, Entry>()
  #files: IndexedFile[] = []
  #nextSequence = 0
  #nextFinish = 0
  #nextFile = 0

  constructor(now: () => number, fence: FenceMark) {
    this.#now = now
    this.#fence = fence
  }

  admit: PromptStore['admit'] = async (prompt, { idempotencyMs }) => {
    const now = this.#now()
    const old = this.#entries.get(prompt.promptId)
    if (old !== undefined) {
      if (judgeKnownId(old.record, prompt, { now, idempotencyMs }) === 'known') {
        return { kind: 'known', prompt: { ...old.record } }
      }
      this.#entries.delete(prompt.promptId)
    }
    const record = newRecord(prompt, { sequence: this.#nextSequence, now })
    this.#nextSequence += 1
    this.#entries.set(prompt.promptId, {
      record,
      body: { ...prompt.body },
      log: [],
      history: undefined,
      finishOrder: undefined,
    })
    return { kind: 'admitted', prompt: { ...record } }
  }

  publish: PromptStore['publish'] = async (promptId) => {
    const record = this.#entries.get(promptId)?.record
    if (record === undefined || record.admitted) return false
    record.admitted = true
    return true
  }

  discard: PromptStore['discard'] = async (promptId) => {
    if (this.#entries.get(promptId)?.record.admitted !== false) return false
    return this.#entries.delete(promptId)
  }

  startAttempt: PromptStore['startAttempt'] = async (claim) => {
    if (claim.fence < this.#fence.highest) return undefined
    this.#fence.highest = claim.fence
    const entry = this.#entries.get(claim.promptId)
    if (entry?.record.status !== 'queued') return undefined
    entry.record.status = 'dispatching'
    entry.record.attempt += 1
    entry.record.workerId = claim.workerId
    this.#append(entry, claim.log)
    return { promptId: claim.promptId, number: entry.record.attempt, workerId: claim.workerId }
  }

  markRunning: PromptStore['markRunning'] = async (attempt) => {
    const entry = this.#current(attempt)
    if (entry === undefined || entry.record.status === 'queued') return false
    entry.record.status = 'running'
    entry.record.startedAt ??= this.#now()
    return true
  }

  requeue: PromptStore['requeue'] = async (attempt, why) => {
    const entry = this.#current(attempt)
    if (entry === undefined || entry.record.status === 'queued') return undefined
    entry.record.status = 'queued'
    if (why.sent) entry.record.sentAttempts += 1
    if (why.workerDied) entry.record.workerDeaths += 1
    this.#append(entry, why.log)
    return { ...entry.record }
  }

  finish: PromptStore['finish'] = async (attempt, outcome, log) => {
    const entry = this.#current(attempt)
    return entry === undefined ? undefined : this.#end(entry, outcome, log)
  }

  cancelQueued: PromptStore['cancelQueued'] = async (promptId, log) => {
    const entry = this.#entries.get(promptId)
    if (entry?.record.status !== 'queued') return undefined
    return this.#end(
      entry,
      { status: 'cancelled', reason: log, history: undefined, summary: undefined, files: [] },
      log,
    )
  }

  get: PromptStore['get'] = async (promptId) => {
    const record = this.#entries.get(promptId)?.record
    return record === undefined ? undefined : { ...record }
  }

  getByGatewayJobId: PromptStore['getByGatewayJobId'] = async (gatewayJobId) => {
    return this.#records((record) => record.gatewayJobId === gatewayJobId)[0]
  }

  readBody: PromptStore['readBody'] = async (promptId) => {
    const body = this.#entries.get(promptId)?.body
    return body === undefined ? undefined : { ...body }
  }

  readBodies: PromptStore['readBodies'] = async (promptIds) => {
    const bodies = new Map<PromptId, PromptBody>()
    for (const promptId of promptIds) {
      const body = this.#entries.get(promptId)?.body
      if (body !== undefined) bodies.set(promptId, { ...body })
    }
    return bodies
  }

  unfinished: PromptStore['unfinished'] = async () => this.#records((record) => !isEnded(record.status))

  list: PromptStore['list'] = async (query) => {
    const matching = this.#records((record) => matches(record, query)).toSorted(orderOf(query))
    const end = query.limit === undefined ? undefined : query.offset + query.limit
    return { prompts: matching.slice(query.offset, end), total: matching.length }
  }

  history: PromptStore['history'] = async (query) => {
    const all = this.#finished().flatMap(({ record, history }) =>
      history !== undefined && record.admitted && (query.owner === undefined || record.owner === query.owner)
        ? [{ promptId: record.promptId, text: history }]
        : [],
    )
    const window = historyWindow(query)
    if (window.kind === 'newest')
      return window.count === undefined ? all : all.slice(Math.max(0, all.length - window.count))
    return all.slice(window.skip, window.count === undefined ? undefined : window.skip + window.count)
  }

  historyEntry: PromptStore['historyEntry'] = async (promptId) => {
    const text = this.#entries.get(promptId)?.history
    return text === undefined ? undefined : { promptId, text }
  }

  deleteHistory: PromptStore['deleteHistory'] = async ({ promptIds, owner }) => {
    for (const promptId of promptIds) {
      const entry = this.#entries.get(promptId)
      if (entry !== undefined && (owner === undefined || entry.record.owner === owner)) dropHistory(entry)
    }
  }

  clearHistory: PromptStore['clearHistory'] = async ({ caller }) => {
    for (const entry of this.#entries.values()) if (entry.record.caller === caller) dropHistory(entry)
  }

  prune: PromptStore['prune'] = async ({ maxEntries, maxAgeMs }) => {
    const finished = this.#finished()
    const surplus = maxEntries === undefined ? 0 : finished.length - maxEntries
    const before = maxAgeMs === undefined ? Number.NEGATIVE_INFINITY : this.#now() - maxAgeMs
    const doomed = finished.filter(({ record }, at) => at < surplus || (record.finishedAt ?? 0) < before)
    const ids = new Set(doomed.map(({ record }) => record.promptId))
    for (const promptId of ids) this.#entries.delete(promptId)
    if (ids.size > 0) this.#files = this.#files.filter((file) => !ids.has(file.promptId))
    return ids.size
  }

  findFile: PromptStore['findFile'] = async (name) => {
    return this.#newestFile(
      (file) =>
        file.token === name.token &&
        file.type === name.type &&
        file.subfolder === name.subfolder &&
        file.filename === name.filename,
    )
  }

  findFileByName: PromptStore['findFileByName'] = async (query) => {
    return this.#newestFile(
      (file) =>
        file.type === query.type &&
        file.filename === query.filename &&
        (query.owner === undefined || file.owner === query.owner) &&
        (query.promptId === undefined || file.promptId === query.promptId) &&
        (query.subfolder === undefined || file.subfolder === query.subfolder),
    )
  }

  newestOnWorker: PromptStore['newestOnWorker'] = async (name) => {
    return this.#newestFile(
      (file) =>
        file.workerId === name.workerId &&
        file.type === name.type &&
        file.subfolder === name.subfolder &&
        file.filename === name.filename,
    )
  }

  newestFiles: PromptStore['newestFiles'] = async ({ owner, type, limit }) => {
    const found: IndexedFile[] = []
    for (let at = this.#files.length - 1; at >= 0 && found.length < limit; at--) {
      const file = this.#files[at]
      if (file?.owner === owner && file.type === type) found.push({ ...file })
    }
    return found
  }

  log: PromptStore['log'] = async (promptId, text) => {
    const entry = this.#entries.get(promptId)
    if (entry !== undefined) this.#append(entry, text)
  }

  logOf: PromptStore['logOf'] = async (promptId) => [...(this.#entries.get(promptId)?.log ?? [])]

  markTold: PromptStore['markTold'] = async (promptIds) => {
    for (const promptId of promptIds) {
      const entry = this.#entries.get(promptId)
      if (entry !== undefined) entry.record.told = true
    }
  }

  untold: PromptStore['untold'] = async (withinMs) => {
    const after = this.#now() - withinMs
    return this.#finished()
      .filter(({ record, history }) => {
        const isRecent = (record.finishedAt ?? 0) > after
        return isRecent && record.clientId !== undefined && history !== undefined && !record.told
      })
      .map(({ record }) => ({ ...record }))
  }

  /** The entry whose newest attempt this is, unless it has ended. */
  #current(attempt: Pick<Attempt, 'promptId' | 'number'>): Entry | undefined {
    const entry = this.#entries.get(attempt.promptId)
    if (entry === undefined || entry.record.attempt !== attempt.number) return undefined
    return isEnded(entry.record.status) ? undefined : entry
  }

  #end(entry: Entry, outcome: FinishedOutcome, log: string): PromptRecord {
    const { record } = entry
    record.status = outcome.status
    record.reason = outcome.reason
    record.summary = outcome.summary
    record.finishedAt = this.#now()
    entry.history = outcome.history
    record.listed = outcome.history !== undefined
    entry.body.sealed = undefined
    entry.finishOrder = this.#nextFinish
    this.#nextFinish += 1
    for (const { token, workerId, type, subfolder, filename } of outcome.files) {
      const { owner, promptId } = record
      this.#files.push({ token, workerId, type, subfolder, filename, owner, promptId, sequence: this.#nextFile })
      this.#nextFile += 1
    }
    this.#append(entry, log)
    return { ...record }
  }

  #append(entry: Entry, text: string): void {
    entry.log.push({ at: this.#now(), text })
    if (entry.log.length > maxLogLines) entry.log.shift()
  }

  #records(accept: (record: PromptRecord) => boolean): PromptRecord[] {
    const found: PromptRecord[] = []
    for (const { record } of this.#entries.values()) if (accept(record)) found.push({ ...record })
    return found
  }

  #finished(): Entry[] {
    return [...this.#entries.values()]
      .filter((entry) => entry.finishOrder !== undefined)
      .toSorted((a, b) => (a.finishOrder ?? 0) - (b.finishOrder ?? 0))
  }

  #newestFile(accept: (file: IndexedFile) => boolean): IndexedFile | undefined {
    const found = this.#files.findLast(accept)
    return found === undefined ? undefined : { ...found }
  }
}

function dropHistory(entry: Entry): void {
  if (entry.history === undefined) return
  entry.history = undefined
  entry.record.listed = false
}

function matches(record: PromptRecord, query: JobQuery): boolean {
  if (!record.admitted || !record.listed) return false
  if (query.owner !== undefined && record.owner !== query.owner) return false
  if (query.workflowId !== undefined && record.workflowId !== query.workflowId) return false
  return query.statuses.length === 0 || query.statuses.includes(record.status)
}

function orderOf(query: JobQuery): (a: PromptRecord, b: PromptRecord) => number {
  const key = query.sortBy === 'created_at' ? (record: PromptRecord) => record.createdAt : executionMs
  const direction = query.descending ? -1 : 1
  return (a, b) => direction * (key(a) - key(b) || a.sequence - b.sequence)
}
