import type { Logger } from 'pino'
import type { WorkerRegistry } from './registry.ts'
import type { Worker } from './worker.ts'

export interface FleetReaderOptions {
  registry: Pick<WorkerRegistry, 'list'>
  /** Milliseconds for one worker's answer. */
  timeoutMs?: number
  /** Monotonic milliseconds. */
  now: () => number
  log: Pick<Logger, 'debug'>
}

export interface WorkerAnswer {
  worker: Worker
  text: string
}

interface Reading {
  since: number
  answers: Promise<readonly WorkerAnswer[]>
}

const TIMEOUT_MS = 3_000
const MAX_PATHS = 200

/**
 * Asks all healthy workers the same question. A worker is asked one thing at a time and each question at most once in
 * `maxAgeMs`, whatever many clients ask.
 */
export class FleetReader {
  readonly #options: Required<FleetReaderOptions>
  readonly #readings = new Map<string, Reading>()
  readonly #turns = new WeakMap<Worker, Promise<unknown>>()

  constructor(options: FleetReaderOptions) {
    this.#options = { timeoutMs: TIMEOUT_MS, ...options }
  }

  /**
   * Texts of `GET path` by worker, in order of the workers. Those that do not have the route, or do not answer in time,
   * are left out. `path` must not be a client's to choose freely.
   */
  read(path: string, options: { maxAgeMs: number }): Promise<readonly WorkerAnswer[]> {
    const now = this.#options.now()
    const known = this.#readings.get(path)
    if (known && now - known.since < options.maxAgeMs) return known.answers
    const workers = this.#options.registry.list().filter(({ state }) => state.kind === 'healthy')
    const answers = Promise.all(workers.map((worker) => this.#ask(worker, path))).then((all) =>
      all.filter((answer) => answer !== undefined),
    )
    this.#readings.delete(path)
    this.#readings.set(path, { since: now, answers })
    const [oldest] = this.#readings.keys()
    if (this.#readings.size > MAX_PATHS && oldest !== undefined) this.#readings.delete(oldest)
    return answers
  }

  #ask(worker: Worker, path: string): Promise<WorkerAnswer | undefined> {
    const turn = (this.#turns.get(worker) ?? Promise.resolve()).then(async () => {
      try {
        const text = await worker.client.getJsonText(path, { timeoutMs: this.#options.timeoutMs })
        return text === undefined ? undefined : { worker, text }
      } catch (error) {
        this.#options.log.debug({ workerId: worker.id, path, err: error }, 'a worker could not be read')
        return undefined
      }
    })
    this.#turns.set(worker, turn)
    return turn
  }
}
