import type { PromptTraits } from '../scheduler/traits.ts'

export type PromptId = string
export type WorkerId = string

/** Where a prompt stands. `admitting` is not a status but a flag: durable, not yet visible (see `admitted`). */
export type PromptStatus = 'queued' | 'dispatching' | 'running' | 'succeeded' | 'failed' | 'cancelled'

/** What is kept of a prompt beside its text. Times are milliseconds since the epoch by the store's clock. */
export interface PromptRecord {
  /** The id clients see: theirs, or ours. */
  promptId: PromptId
  /** The id workers see: the same when it is a canonical UUID, else one of ours. New for each use of a client's id. */
  upstreamId: string
  /** The id of `GET /api/task/gateway/{id}`. */
  gatewayJobId: string
  owner: string
  caller: string
  clientId: string | undefined
  /** Breaks ties and orders arrivals; given by the store, starts at 0, never given twice. */
  sequence: number
  /** ComfyUI's order key, lower first. `sequence`, or minus it for `front`, or what the client sent. */
  number: number
  /** True when the client sent the number: ComfyUI then shows a float. */
  numberGiven: boolean
  /** Higher first, across callers. */
  priority: number
  status: PromptStatus
  /** False until its verdict is out: counts for nobody and is listed nowhere. */
  admitted: boolean
  /** False once it is gone for clients: it ended without a history entry, or its entry was deleted. */
  listed: boolean
  /** Number of the newest attempt, 0 before the first. */
  attempt: number
  /** Attempts that may have begun on a worker (those that never left do not count). */
  sentAttempts: number
  /** Attempts that ended with the death of their worker. */
  workerDeaths: number
  /** Worker of the newest attempt. */
  workerId: WorkerId | undefined
  /** SHA-256 (hex) of the body as it came. */
  bodyHash: string
  traits: PromptTraits
  /** `extra_data.extra_pnginfo.workflow.id`, for the jobs list. */
  workflowId: string | undefined
  createdAt: number
  startedAt: number | undefined
  finishedAt: number | undefined
  /** Why it failed or was cancelled, in words. */
  reason: string | undefined
  /** What the jobs list shows of a finished prompt; JSON text made by the queue, opaque to the store. */
  summary: string | undefined
  /** Whether its terminal messages reached a socket of its client. */
  told: boolean
}

export interface PromptBody {
  /** The body of `POST /prompt` as it came, without partner keys. */
  text: string
  /** Partner keys, sealed; erased when the prompt ends. */
  sealed: string | undefined
}

/** A prompt to admit. The store adds sequence, number, times and the zero counters. */
export interface NewPrompt
  extends Pick<
    PromptRecord,
    | 'promptId'
    | 'upstreamId'
    | 'gatewayJobId'
    | 'owner'
    | 'caller'
    | 'clientId'
    | 'priority'
    | 'admitted'
    | 'bodyHash'
    | 'traits'
    | 'workflowId'
  > {
  /** `front`: number becomes minus the sequence. A number, not NaN: used as it is. Undefined: the sequence. */
  order: 'front' | number | undefined
  body: PromptBody
}

export type Admission =
  | { kind: 'admitted'; prompt: PromptRecord }
  /** The same id, owner and body are known already and not older than the idempotency window. Nothing was written. */
  | { kind: 'known'; prompt: PromptRecord }

/** One dispatch of a prompt. Its number fences every later write about it. */
export interface Attempt {
  promptId: PromptId
  number: number
  workerId: WorkerId
}

/** A file a prompt made, as its worker names it. */
export interface OutputFile {
  /** Path-safe name of the worker's disk in clients' `subfolder`. */
  token: string
  workerId: WorkerId
  type: 'output' | 'temp'
  /** On the worker, `/`-separated, without the token. */
  subfolder: string
  filename: string
}

export interface IndexedFile extends OutputFile {
  owner: string
  promptId: PromptId
  /** Order of announcement: higher is newer. */
  sequence: number
}

export interface FinishedOutcome {
  status: 'succeeded' | 'failed' | 'cancelled'
  reason: string | undefined
  /** JSON text of the history entry as clients see it; undefined leaves no trace in history. */
  history: string | undefined
  summary: string | undefined
  files: readonly OutputFile[]
}

export interface HistoryEntry {
  promptId: PromptId
  text: string
}

/** One line of a prompt's own log. */
export interface LogLine {
  /** Milliseconds since the epoch, store's clock. */
  at: number
  text: string
}

export interface JobQuery {
  owner: string | undefined
  /** Empty: all. */
  statuses: readonly PromptStatus[]
  workflowId: string | undefined
  /** Ties go by sequence, in the same direction. What never ran or has not ended has the duration 0. */
  sortBy: 'created_at' | 'execution_duration'
  descending: boolean
  /** Undefined: no limit. */
  limit: number | undefined
  offset: number
}

/** Lines of a prompt's own log that are kept. */
export const maxLogLines = 200

/**
 * The prompts, their text, history, files and logs. Every verb is atomic and durable when it resolves. Verbs that take
 * an {@link Attempt} change nothing and answer false or undefined when that attempt is no longer the newest or the
 * prompt has ended. Every failure of the back end itself is thrown.
 */
export interface PromptStore {
  /**
   * Adds a prompt and gives it the next sequence. An id that is known is `known` when owner and body are the same and
   * it is unfinished or ended less than `idempotencyMs` ago; it throws PromptIdInUseError when owner differs, or when
   * the body differs and it is unfinished or within that time; otherwise the old prompt, its history entry and its log
   * are replaced (its files stay in the index). Of two at the same moment one is admitted.
   */
  admit(prompt: NewPrompt, options: { idempotencyMs: number }): Promise<Admission>
  /** Makes an admitting prompt visible. False when it is not known or was visible already. */
  publish(promptId: PromptId): Promise<boolean>
  /** Deletes a prompt that is still admitting, without trace. False when it is visible or unknown. */
  discard(promptId: PromptId): Promise<boolean>
  /**
   * Claims a queued prompt for a worker: status `dispatching`, attempt number + 1. Undefined when it is not queued, or
   * when `fence` is lower than the highest this store has seen in a claim or a lease.
   */
  startAttempt(claim: {
    promptId: PromptId
    workerId: WorkerId
    fence: number
    log: string
  }): Promise<Attempt | undefined>
  /** `dispatching` → `running`, sets startedAt (kept when it is set already). True again when it runs already, false when it was requeued. */
  markRunning(attempt: Attempt): Promise<boolean>
  /**
   * Back to `queued`, old place in line. `sent`: the attempt may have begun, so it counts; `workerDied` counts a death.
   * Answers the record as it is then; undefined also when it is queued already, so that nothing counts twice.
   */
  requeue(attempt: Attempt, why: { sent: boolean; workerDied: boolean; log: string }): Promise<PromptRecord | undefined>
  /**
   * Ends a prompt: status, reason, history entry, files, summary, finishedAt; partner keys are erased. The attempt
   * number is the newest one, 0 for a prompt that was never claimed.
   */
  finish(
    attempt: Pick<Attempt, 'promptId' | 'number'>,
    outcome: FinishedOutcome,
    log: string,
  ): Promise<PromptRecord | undefined>
  /** Cancels a prompt that is queued, with `log` as its reason; undefined when it is not (then the worker has to be asked). */
  cancelQueued(promptId: PromptId, log: string): Promise<PromptRecord | undefined>

  get(promptId: PromptId): Promise<PromptRecord | undefined>
  getByGatewayJobId(gatewayJobId: string): Promise<PromptRecord | undefined>
  readBody(promptId: PromptId): Promise<PromptBody | undefined>
  /** Bodies of several prompts, in no order; unknown ids are left out. */
  readBodies(promptIds: readonly PromptId[]): Promise<ReadonlyMap<PromptId, PromptBody>>
  /** All that have not ended, admitting ones too, by sequence. */
  unfinished(): Promise<PromptRecord[]>
  /**
   * A page of the admitted prompts that have not ended or that have a history entry, and how many there are on all
   * pages. What was cancelled while it waited, ended without an entry, or lost it by `deleteHistory` or `clearHistory`
   * is not among them and not counted; `get` still answers it. An id that is admitted anew is listed again.
   */
  list(query: JobQuery): Promise<{ prompts: PromptRecord[]; total: number }>

  /**
   * History in order of finishing, oldest first. `maxItems` alone: the newest; with `offset`: from the `offset`-th
   * oldest on, as ComfyUI does. An entry whose prompt is still admitting is not listed, but `historyEntry` finds it.
   */
  history(query: {
    owner: string | undefined
    maxItems: number | undefined
    offset: number | undefined
  }): Promise<HistoryEntry[]>
  historyEntry(promptId: PromptId): Promise<HistoryEntry | undefined>
  /**
   * Removes entries of these ids that belong to `owner` (undefined: anyone's). The prompts themselves stay known but are
   * no longer listed; one that has not ended is left as it is.
   */
  deleteHistory(query: { promptIds: readonly PromptId[]; owner: string | undefined }): Promise<void>
  /** Removes all entries of prompts that this caller submitted, as `deleteHistory` does. */
  clearHistory(query: { caller: string }): Promise<void>
  /**
   * Forgets finished prompts beyond the newest `maxEntries` and those that ended more than `maxAgeMs` ago, with all of
   * theirs. Answers how many. May go in several atomic steps, other verbs in between; what ends meanwhile stays.
   */
  prune(limits: { maxEntries: number | undefined; maxAgeMs: number | undefined }): Promise<number>

  /** Newest file with this name under this token, or undefined. */
  findFile(name: Pick<OutputFile, 'token' | 'type' | 'subfolder' | 'filename'>): Promise<IndexedFile | undefined>
  /** The owner's newest file with this name on any worker; with `promptId` only that prompt's. `subfolder` undefined: any. */
  findFileByName(query: {
    owner: string | undefined
    promptId: PromptId | undefined
    type: 'output' | 'temp'
    subfolder: string | undefined
    filename: string
  }): Promise<IndexedFile | undefined>

  /** The newest file of this name that this worker announced, under any token. */
  newestOnWorker(
    name: Pick<OutputFile, 'workerId' | 'type' | 'subfolder' | 'filename'>,
  ): Promise<IndexedFile | undefined>

  /** The owner's newest files, newest first; a name that was announced again is listed again. */
  newestFiles(query: { owner: string; type: 'output' | 'temp'; limit: number }): Promise<IndexedFile[]>

  /** Adds a line to the prompt's log; ignored for an unknown prompt. At most 200 lines a prompt are kept, the oldest go. */
  log(promptId: PromptId, text: string): Promise<void>
  logOf(promptId: PromptId): Promise<LogLine[]>

  /** Notes that terminal messages reached the client. */
  markTold(promptIds: readonly PromptId[]): Promise<void>
  /** Ended less than `withinMs` ago, with a client id, with history, and not told; by finishing order. */
  untold(withinMs: number): Promise<PromptRecord[]>
}

/** A value that survives JSON. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue }

export interface StoredRecord<T extends JsonValue = JsonValue> {
  id: string
  /** Starts at 1 and grows by one with each put. */
  version: number
  value: T
  /** What `list` can filter by. */
  index: string | undefined
  /** Milliseconds since the epoch; what `due` looks at. */
  dueAt: number | undefined
}

/** The generic collection: everything that is only kept (workers, settings, templates, keys) uses this. */
export interface RecordStore {
  get(collection: string, id: string): Promise<StoredRecord | undefined>
  /**
   * Writes a record and answers it. `ifVersion` 0: only when it does not exist; n: only when it has that version;
   * undefined: always. Answers undefined when the condition failed.
   */
  put(
    collection: string,
    record: { id: string; value: JsonValue; index?: string | undefined; dueAt?: number | undefined },
    options?: { ifVersion?: number },
  ): Promise<StoredRecord | undefined>
  /** False when there was none. */
  delete(collection: string, id: string): Promise<boolean>
  /** By id, ascending; with `index` only those. */
  list(collection: string, query?: { index?: string }): Promise<StoredRecord[]>
  /** Those due at or before now by the store's clock, soonest first, then by id. */
  due(collection: string, limit: number): Promise<StoredRecord[]>
}

export interface Lease {
  /**
   * Grows with every change of holder, whatever the lease; a claim with a lower one is refused. So only the leader's
   * lease may change hands in a store: a second lease would lock the leader out.
   */
  fence: number
  holder: string
}

export interface LeaseStore {
  /** Takes a free or expired lease, or renews one's own. Undefined while another holds it. Durations by the store's clock. */
  acquire(lease: { name: string; holder: string; ttlMs: number }): Promise<Lease | undefined>
  /** Gives it up at once; nothing happens when it is not one's own. */
  release(lease: { name: string; holder: string }): Promise<void>
}

export interface Store {
  readonly prompts: PromptStore
  readonly records: RecordStore
  readonly leases: LeaseStore
  /** True when a restart of the process keeps what was written. */
  readonly isDurable: boolean
  /** Waits for writes under way, then closes. Later calls throw. */
  close(): Promise<void>
}
