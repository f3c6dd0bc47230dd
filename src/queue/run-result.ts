import { setTimeout as pause } from 'node:timers/promises'
import { WorkerCallError } from '../comfyui/client.ts'
import type { Worker } from '../workers/worker.ts'

/** What a look at the worker's history tells. */
export type ResultLook =
  /** Text of the whole answer. */
  | { kind: 'found'; answer: string }
  /** The worker answers and has no entry. */
  | { kind: 'none' }
  /** It could not be asked, or its answers cannot be read: see `isUnreadable`. */
  | { kind: 'unknown' }

export interface ResultReaderOptions {
  worker: Worker
  upstreamId: string
  /** Characters of the prompt's text, which is in its history too. */
  promptChars(): Promise<number>
  /** Milliseconds after which answers that cannot be read have lost the result. */
  unreadableAfterMs: number
  callFailed(error: WorkerCallError): void
  now: () => number
}

const RETRY_MS = 250
const PAUSE_MAX_MS = 1_000
/** Largest entry beside the prompt itself, and at all: a string holds no more than 512 MiB; bytes. */
const RESULT_BYTES = 64 * 1024 * 1024
const MAX_ANSWER_BYTES = 384 * 1024 * 1024
/** Python escapes what is not ASCII: six bytes for a UTF-16 unit. */
const BYTES_PER_CHAR = 6

/** Reads the result of one attempt from its worker's history. */
export class ResultReader {
  readonly #options: ResultReaderOptions
  #unreadableSince: number | undefined

  constructor(options: ResultReaderOptions) {
    this.#options = options
  }

  /** The worker has answered for too long with what is no history. */
  get isUnreadable(): boolean {
    const { unreadableAfterMs, now } = this.#options
    return this.#unreadableSince !== undefined && now() - this.#unreadableSince >= unreadableAfterMs
  }

  /** One look. */
  async look(signal: AbortSignal): Promise<ResultLook> {
    const { worker, upstreamId, promptChars, callFailed, now } = this.#options
    try {
      const wantedBytes = RESULT_BYTES + BYTES_PER_CHAR * (await promptChars())
      const maxAnswerBytes = Math.min(wantedBytes, MAX_ANSWER_BYTES)
      const answer = await worker.client.history(upstreamId, { signal, maxAnswerBytes })
      this.#unreadableSince = undefined
      return answer === undefined ? { kind: 'none' } : { kind: 'found', answer }
    } catch (error) {
      if (!signal.aborted && error instanceof WorkerCallError) {
        // Answers count that are none; a worker that does not answer at all is given up by its health.
        if (error.fault === 'protocol') this.#unreadableSince ??= now()
        else this.#unreadableSince = undefined
        callFailed(error)
      }
      return { kind: 'unknown' }
    }
  }

  /** Looks until it is there, is surely not, cannot be read, or the signal aborts. `tries`: answers without it. */
  async wait(signal: AbortSignal, { tries }: { tries: number }): Promise<ResultLook> {
    let triesLeft = tries
    for (let pauseMs = RETRY_MS; !signal.aborted; ) {
      const look = await this.look(signal)
      if (look.kind === 'found') return look
      if (look.kind === 'none') {
        triesLeft--
        if (triesLeft <= 0) return look
        pauseMs = RETRY_MS
      } else {
        if (this.isUnreadable) return look
        // It was away: what it does not know when it is back, it has forgotten.
        triesLeft = 1
        pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)
      }
      await pause(pauseMs, undefined, { signal }).catch(() => undefined)
    }
    return { kind: 'unknown' }
  }
}
