import { Execution, type ExecutionOptions, InterruptedError, StoppedError } from './execution.ts'
import type { Gate } from './gate.ts'
import type { RunOutcome, RunRecord } from './ledger.ts'
import type { NodeResult } from './nodes.ts'
import { dumpPyJson, type PyDumpable } from './py-json.ts'
import { QueueHeap, type QueueItem } from './queue-heap.ts'
import type { Recipient } from './socket.ts'

/** A finished run, as `/history` shows it. */
export interface HistoryEntry {
  item: QueueItem
  outputs: ReadonlyMap<string, PyDumpable>
  outcome: Exclude<RunOutcome, 'running' | 'killed'>
  messages: readonly [string, { [key: string]: PyDumpable }][]
}

export interface EngineOptions extends ExecutionOptions {
  gate: Gate
}

/** ComfyUI keeps this many finished prompts, and one more. */
const MAX_HISTORY = 10_000

/** One worker's memory: queue, the running prompt, history and node cache. A restart makes a new one. */
export class Engine {
  readonly #options: EngineOptions
  readonly #queue = new QueueHeap()
  readonly #history = new Map<string, HistoryEntry>()
  #cache = new Map<string, NodeResult>()
  #running: QueueItem | undefined
  #counter = 0
  #isInterrupted = false
  #isStopped = false
  #isLooping = false
  #wake: (() => void) | undefined
  /** The client of the prompt that runs, or ran last; undefined when it had none. */
  #client: Recipient
  #activeNode: string | undefined
  #run: RunRecord | undefined

  constructor(options: EngineOptions) {
    this.#options = options
  }

  /** The next number; failed posts use one up, too. */
  takeNumber(): number {
    this.#counter += 1
    return this.#counter - 1
  }

  get running(): QueueItem | undefined {
    return this.#running
  }

  get pending(): readonly QueueItem[] {
    return this.#queue.items
  }

  get queueRemaining(): number {
    return this.#queue.size + (this.#running ? 1 : 0)
  }

  get history(): ReadonlyMap<string, HistoryEntry> {
    return this.#history
  }

  /** What a reconnecting client is told: the node that runs for it. */
  activeNodeOf(sid: string): string | undefined {
    return this.#client === sid ? this.#activeNode : undefined
  }

  put(item: QueueItem): void {
    this.#queue.push(item)
    this.#options.hub.sendStatus()
    if (this.#isLooping) return
    this.#isLooping = true
    // Later, so that the answer to the POST is on its way first, as it mostly is in ComfyUI.
    setImmediate(() => void this.#loop())
  }

  remove(promptId: string): boolean {
    const removed = this.#queue.remove(promptId)
    if (removed) this.#options.hub.sendStatus()
    return removed
  }

  clearPending(): void {
    this.#queue.clear()
    this.#options.hub.sendStatus()
  }

  forgetHistory(promptId: string): void {
    this.#history.delete(promptId)
  }

  clearHistory(): void {
    this.#history.clear()
  }

  clearCache(): void {
    this.#cache.clear()
  }

  /** Stops what runs now; without an effect between prompts. */
  interrupt(): void {
    this.#isInterrupted = true
    this.#wake?.()
  }

  /** Ends everything at once and silently: the worker died or lost its memory. */
  stop(): void {
    this.#isStopped = true
    if (this.#run) this.#options.ledger.runEnded(this.#run, 'killed')
    this.#wake?.()
  }

  async #loop(): Promise<void> {
    while (!this.#isStopped) {
      await this.#options.gate.pass()
      const item = this.#isStopped ? undefined : this.#queue.pop()
      if (!item) break
      this.#running = item
      this.#options.hub.sendStatus()
      try {
        await this.#runItem(item)
      } catch (error) {
        if (error instanceof StoppedError) return
        throw error
      }
      // Prompts without a pause would otherwise keep requests waiting.
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.#isLooping = false
  }

  async #runItem(item: QueueItem): Promise<void> {
    const { ledger, hub } = this.#options
    const run = ledger.runStarted(item.promptId)
    this.#run = run
    this.#isInterrupted = false
    this.#client = clientOf(item)
    this.#activeNode = undefined
    const execution = new Execution(this.#options, item, this.#client, {
      cache: this.#cache,
      check: () => this.#check(),
      sleep: (ms) => this.#sleep(ms),
      setActiveNode: (nodeId) => {
        this.#activeNode = nodeId
      },
    })
    const outcome = await execution.run()
    this.#cache = execution.cache
    this.#activeNode = undefined
    await this.#options.gate.pass()
    if (this.#isStopped) throw new StoppedError()
    ledger.runEnded(run, outcome)
    if (this.#history.size > MAX_HISTORY) {
      const [oldest] = this.#history.keys()
      if (oldest !== undefined) this.#history.delete(oldest)
    }
    this.#history.set(item.promptId, { item, outcome, outputs: execution.outputs(), messages: execution.messages })
    this.#running = undefined
    this.#run = undefined
    hub.sendStatus()
    if (this.#client !== undefined) hub.send('executing', { node: null, prompt_id: item.promptId }, this.#client)
  }

  #check(): void {
    if (this.#isStopped) throw new StoppedError()
    if (!this.#isInterrupted) return
    this.#isInterrupted = false
    throw new InterruptedError()
  }

  async #sleep(ms: number): Promise<void> {
    this.#check()
    if (ms > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(ms, 2 ** 31 - 1))
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.#wake = undefined
    }
    if (this.#options.gate.isShut) await this.#options.gate.pass()
    this.#check()
  }
}

/** The client id to address; undefined for none. An id that is not text is one that nobody can have. */
function clientOf(item: QueueItem): Recipient {
  const id = item.extraData.get('client_id') ?? null
  if (id === null) return undefined
  return typeof id === 'string' ? id : `\0${dumpPyJson(id)}`
}
