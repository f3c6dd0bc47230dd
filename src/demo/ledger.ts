/** One HTTP request that reached the worker, answered or not. Times are ms since epoch. */
export interface RequestRecord {
  at: number
  method: string
  /** Path with its query, as it came. */
  path: string
  headers: Readonly<Record<string, string | string[] | undefined>>
  /** The body as text; cut after `MAX_RECORDED_BODY` characters. */
  body: string
}

export type RunOutcome = 'running' | 'success' | 'error' | 'interrupted' | 'killed'

/** One run of a prompt. The same id may run twice. */
export interface RunRecord {
  promptId: string
  startedAt: number
  endedAt: number | undefined
  outcome: RunOutcome
}

/** What a ledger notes, told as it happens. `posted` is a `POST /prompt` that arrived, taken or not. Times are ms since epoch. */
export type LedgerEvent =
  | { kind: 'posted'; at: number; body: string }
  | { kind: 'started'; at: number; promptId: string }
  | { kind: 'ended'; at: number; promptId: string; outcome: RunOutcome }

/** A body's recorded text is at most this long. */
export const MAX_RECORDED_BODY = 1024 * 1024

/** What reached a simulated worker and what it did. Survives restarts of the worker, so a test can count runs. */
export class Ledger {
  readonly requests: RequestRecord[] = []
  readonly runs: RunRecord[] = []
  /** `type/subfolder/name` of every file made by a node -> the prompt that made it last. */
  readonly files = new Map<string, string>()
  readonly #maxEntries: number
  readonly #onEvent: (event: LedgerEvent) => void

  /** Each list keeps at least the newest `maxEntries`. `onEvent` hears of everything before it has an effect. */
  constructor({ maxEntries, onEvent }: { maxEntries: number; onEvent?: ((event: LedgerEvent) => void) | undefined }) {
    this.#maxEntries = maxEntries
    this.#onEvent = onEvent ?? (() => undefined)
  }

  request(record: Omit<RequestRecord, 'at' | 'body'>, body: Buffer): void {
    const request = { ...record, at: Date.now(), body: body.toString('utf8', 0, MAX_RECORDED_BODY) }
    this.requests.push(request)
    this.#trim(this.requests)
    if (record.method !== 'POST' || bareRoute(record.path) !== '/prompt') return
    this.#onEvent({ kind: 'posted', at: request.at, body: request.body })
  }

  runStarted(promptId: string): RunRecord {
    const run: RunRecord = { promptId, startedAt: Date.now(), endedAt: undefined, outcome: 'running' }
    this.runs.push(run)
    this.#trim(this.runs)
    this.#onEvent({ kind: 'started', at: run.startedAt, promptId })
    return run
  }

  /** Only the first end of a run counts. */
  runEnded(run: RunRecord, outcome: RunOutcome): void {
    if (run.endedAt !== undefined) return
    run.endedAt = Date.now()
    run.outcome = outcome
    this.#onEvent({ kind: 'ended', at: run.endedAt, promptId: run.promptId, outcome })
  }

  fileMade(path: string, promptId: string): void {
    this.files.delete(path)
    this.files.set(path, promptId)
    if (this.files.size <= this.#maxEntries) return
    const [oldest] = this.files.keys()
    if (oldest !== undefined) this.files.delete(oldest)
  }

  /** Requests of a route: method and path without the `/api` prefix and the query, such as `POST /prompt`. */
  requestsOf(route: string): RequestRecord[] {
    return this.requests.filter(({ method, path }) => `${method} ${bareRoute(path)}` === route)
  }

  /** How often a prompt was started. */
  runsOf(promptId: string): RunRecord[] {
    return this.runs.filter((run) => run.promptId === promptId)
  }

  #trim(list: unknown[]): void {
    // In steps, since removing from the front moves the rest.
    if (list.length > this.#maxEntries * 1.25 + 16) list.splice(0, list.length - this.#maxEntries)
  }
}

/** `/api/x?y` and `/x?y` are the same route `/x`. */
export function bareRoute(path: string): string {
  const [route = '/'] = path.split('?')
  return route.startsWith('/api/') && !route.startsWith('/api/jobs') ? route.slice(4) : route
}
