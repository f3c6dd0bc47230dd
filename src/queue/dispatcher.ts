import type { Logger } from 'pino'
import type { WorkerCallError } from '../comfyui/client.ts'
import { decodeFrame, framePromptId, isResultFrame } from '../comfyui/frames.ts'
import { isForEverybody, promptIdOf, type RemoteQueue, type WorkerMessage } from '../comfyui/protocol.ts'
import type { Placement } from '../scheduler/placement.ts'
import type { SelectionPolicy } from '../scheduler/policy.ts'
import type { PromptTraits } from '../scheduler/traits.ts'
import type { PromptId, WorkerId } from '../store/store.ts'
import type { WorkerRegistry } from '../workers/registry.ts'
import type { WorkerObserver } from '../workers/supervisor.ts'
import type { InFlight, Worker } from '../workers/worker.ts'
import { Aftermath, type AftermathSettings } from './aftermath.ts'
import { AttemptRun, type Failed, type RunOwner, type RunServices } from './attempt-run.ts'
import { FleetPlacement } from './fleet-placement.ts'
import type { MappedEntry } from './history-entry.ts'
import type { Prompt } from './prompt.ts'
import type { PromptQueue } from './queue.ts'

export interface DispatcherSettings extends AftermathSettings {
  /** Milliseconds without a sign of a running prompt until it is given up there; 0: only told to the operator. */
  stallMs: number
}

/** When a running prompt has been quiet for this long the operator is told; ms. */
const STALL_ALERT_MS = 600_000
/** Pause after a claim that the store did not take; ms. */
const STORE_PAUSE_MS = 500

export interface DispatcherOptions extends Omit<RunServices, 'owner' | 'isTokenOf'> {
  queue: PromptQueue
  registry: WorkerRegistry
  policy: SelectionPolicy
  settings: DispatcherSettings
  /** Tells every socket what a custom node of a worker sent to all while no prompt of ours ran there. */
  tellAll: (type: string, text: string) => void
  log: Logger
}

/** A worker chosen and a slot on it taken, before the prompt is in the store. */
export interface Reservation {
  worker: Worker
  slot: InFlight
}

/**
 * Brings waiting prompts to workers and what workers say to the runs. Choosing happens in one go without awaits, with a
 * slot reserved at once; everything slow is in the runs and their aftermath.
 */
export class Dispatcher implements WorkerObserver, RunOwner {
  readonly #options: DispatcherOptions
  readonly #services: RunServices
  readonly #runs = new Map<PromptId, AttemptRun>()
  readonly #runsOf = new Map<WorkerId, Set<AttemptRun>>()
  readonly #placement: FleetPlacement
  readonly #aftermath: Aftermath
  readonly #alerted = new WeakSet<AttemptRun>()
  /** When a prompt last left a worker; monotonic ms. */
  readonly #leftAt = new WeakMap<Worker, number>()
  #pause: NodeJS.Timeout | undefined
  #isScheduled = false
  #isStopped = false

  constructor(options: DispatcherOptions) {
    this.#options = options
    this.#placement = new FleetPlacement(options.registry)
    this.#aftermath = new Aftermath({ ...options, placement: this.#placement })
    this.#services = {
      ...options,
      owner: this,
      isTokenOf: (worker, token) => token === worker.config.token,
    }
  }

  runOf(promptId: PromptId): AttemptRun | undefined {
    return this.#runs.get(promptId)
  }

  /** Offers waiting prompts to workers soon; calls in the same turn are one. */
  wake(): void {
    if (this.#isScheduled || this.#isStopped) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.#offer()
    })
  }

  /** Takes a slot on an idle worker that can run such a prompt, at once; undefined when there is none. */
  reserveIdle(
    traits: PromptTraits,
    ids: { promptId: PromptId; upstreamId: string; avoided?: ReadonlySet<WorkerId> },
  ): Reservation | undefined {
    if (this.#isStopped || this.#pause) return undefined
    const idle = this.#options.registry.list().filter((worker) => worker.isIdle && worker.isAvailable)
    if (idle.length === 0) return undefined
    const able = this.#placement.of(traits).able.filter((worker) => idle.includes(worker))
    const worker = this.#choose(
      able.filter((candidate) => !ids.avoided?.has(candidate.id)),
      traits,
    )
    return worker && { worker, slot: worker.reserve(ids.promptId, ids.upstreamId) }
  }

  /** Gives a reservation back that no prompt came for. */
  release({ worker, slot }: Reservation): void {
    worker.release(slot)
    this.wake()
  }

  /** Sends a prompt to the worker that was reserved for it. */
  dispatch(prompt: Prompt, { worker, slot }: Reservation): AttemptRun {
    const run = this.#newRun(prompt, worker, slot)
    prompt.waitReason = undefined
    // It was reserved a moment ago, and nobody is told of what is lost already.
    const isGone = worker.state.kind === 'down' || this.#options.registry.get(worker.id) !== worker
    if (isGone) void run.lost(`${worker.config.name} is not there any more`, { isFirst: false })
    void run.start(`to ${worker.config.name}, which holds ${worker.load - 1}`)
    return run
  }

  /** Takes up what a former process had on workers; before the workers are watched. */
  async adopt(prompts: readonly Prompt[]): Promise<void> {
    for (const prompt of prompts) {
      const { record } = prompt
      const worker = record.workerId === undefined ? undefined : this.#options.registry.get(record.workerId)
      const attempt = { promptId: record.promptId, number: record.attempt, workerId: record.workerId ?? '' }
      if (!worker) {
        await this.#options.queue.requeue(prompt, attempt, {
          sent: true,
          workerDied: false,
          log: 'its worker is not there any more',
        })
        continue
      }
      const slot = worker.reserve(record.promptId, record.upstreamId)
      this.#newRun(prompt, worker, slot).adopt(attempt)
    }
  }

  /** Sends nothing more. Resolves when no call of a dispatch is under way, or when the signal aborts. */
  async stop(signal: AbortSignal): Promise<void> {
    this.#isStopped = true
    const posting = [...this.#runs.values()].filter(({ phase }) => phase === 'claiming' || phase === 'posting')
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    await Promise.race([Promise.allSettled(posting.map((run) => run.verdict)), aborted])
  }

  // --- what workers say

  message(worker: Worker, message: WorkerMessage, text: string): void {
    const upstreamId = promptIdOf(message)
    const run = this.#runOn(worker, upstreamId)
    if (run) run.hear(message, text)
    else if (isForEverybody(message)) this.#options.tellAll(message.type, text)
  }

  frame(worker: Worker, bytes: Buffer): void {
    const frame = decodeFrame(bytes)
    if (frame) this.#runOn(worker, framePromptId(frame))?.seeFrame(bytes, { isResult: isResultFrame(frame) })
  }

  queueSeen(worker: Worker, queue: RemoteQueue, askedAt: number): void {
    const ours = new Set<string>()
    for (const run of this.#on(worker)) {
      ours.add(run.upstreamId)
      run.queueSeen(queue, askedAt)
      this.#noticeStall(run)
    }
    if (worker.stalledOn !== undefined && !queue.running.some(({ id }) => id === worker.stalledOn)) {
      worker.stalledOn = undefined
    }
    const isForeign = ({ clientId }: { clientId: string | undefined }) => clientId !== worker.config.upstreamClientId
    worker.foreignRunning = queue.running.filter(({ id, clientId }) => !ours.has(id) && isForeign({ clientId })).length
    worker.foreignPending = queue.pending.filter(({ id, clientId }) => !ours.has(id) && isForeign({ clientId })).length
    // What ended while the worker answered is no stray, and the next one to run is not to be interrupted for it.
    if (askedAt > (this.#leftAt.get(worker) ?? Number.NEGATIVE_INFINITY)) this.#clearStrays(worker, queue, ours)
    this.wake()
  }

  lost(worker: Worker, reason: string): void {
    worker.stalledOn = undefined
    this.#options.inputs.forget(worker.id)
    const runs = [...this.#on(worker)].map((run) => ({ run, isFirst: this.isFirst(run) }))
    for (const { run, isFirst } of runs) void run.lost(`${worker.config.name} is given up: ${reason}`, { isFirst })
  }

  changed(worker: Worker): void {
    // It may come back with an empty disk.
    if (!worker.isUp) this.#options.inputs.forget(worker.id)
    this.wake()
  }

  // --- what runs leave to decide

  refused(run: AttemptRun, text: string): Promise<void> {
    return this.#aftermath.refused(run, text)
  }

  failed(run: AttemptRun, failure: Failed): Promise<void> {
    return this.#aftermath.failed(run, failure)
  }

  reroute(run: AttemptRun, entry: MappedEntry): Promise<boolean> {
    return this.#aftermath.reroute(run, entry)
  }

  over(run: AttemptRun): void {
    if (this.#runs.get(run.prompt.promptId) === run) this.#runs.delete(run.prompt.promptId)
    this.#leftAt.set(run.worker, this.#options.now())
    const siblings = this.#runsOf.get(run.worker.id)
    siblings?.delete(run)
    if (siblings?.size === 0) this.#runsOf.delete(run.worker.id)
    this.wake()
  }

  storeFailed(): void {
    this.#pause ??= setTimeout(() => {
      this.#pause = undefined
      this.wake()
    }, STORE_PAUSE_MS).unref()
  }

  hasRoom(): void {
    this.wake()
  }

  callFailed(worker: Worker, error: WorkerCallError): void {
    this.#options.registry.supervisor(worker.id)?.callFailed(error)
  }

  callSucceeded(worker: Worker): void {
    this.#options.registry.supervisor(worker.id)?.callSucceeded()
  }

  isFirst(run: AttemptRun): boolean {
    for (const other of this.#on(run.worker)) {
      if (other === run) return true
      // In order of dispatch, which is the order a worker runs them in.
      if (other.phase === 'unsure' || other.phase === 'accepted' || other.phase === 'running') return false
    }
    return true
  }

  lookAtQueue(worker: Worker): void {
    this.#options.registry.supervisor(worker.id)?.lookAtQueue()
  }

  hearAgain(worker: Worker): void {
    this.#options.registry.supervisor(worker.id)?.hearAgain()
  }

  #offer(): void {
    const { queue, registry } = this.#options
    if (this.#isStopped || queue.waitingCount === 0 || this.#pause) return
    const workers = registry.list()
    let open = workers.filter((worker) => worker.isAvailable)
    // Prompts with the same needs are placed alike, so that a long line of them costs one look each.
    const placements = new Map<string, Placement<Worker>>()
    const chosen: [Prompt, Reservation][] = []
    for (const prompt of queue.waiting) {
      if (open.length === 0) break
      const { traits, promptId, upstreamId } = prompt.record
      const key = JSON.stringify([traits.classTypes, traits.combos, traits.pinnedWorkerIds, traits.sizes])
      let placement = placements.get(key)
      if (!placement) {
        placement = this.#placement.of(traits)
        placements.set(key, placement)
      }
      const candidates = this.#candidates(prompt, placement.able, open)
      const worker = this.#choose(candidates, traits)
      if (!worker) {
        prompt.waitReason = placement.reason ?? 'the workers that can run it are busy or away'
        continue
      }
      chosen.push([prompt, { worker, slot: worker.reserve(promptId, upstreamId) }])
      open = open.filter((candidate) => candidate.isAvailable)
    }
    for (const [prompt, reservation] of chosen) this.dispatch(prompt, reservation)
  }

  /** Those that are open, leaving out what failed it while anything else can take it. */
  #candidates(prompt: Prompt, able: readonly Worker[], open: readonly Worker[]): Worker[] {
    const untried = able.filter((worker) => !prompt.avoided.has(worker.id))
    if (!untried.some((worker) => worker.isUp)) {
      prompt.avoided.clear()
      return able.filter((worker) => open.includes(worker))
    }
    return untried.filter((worker) => open.includes(worker))
  }

  #choose(candidates: readonly Worker[], traits: PromptTraits): Worker | undefined {
    const plain = candidates.map((worker) => ({
      id: worker.id,
      weight: worker.config.weight,
      slots: worker.config.slots,
      load: worker.load,
      dispatched: worker.dispatched,
      worker,
    }))
    return this.#options.policy(plain, traits)?.worker
  }

  /** The run a message belongs to: by id, or the one that runs there. Other prompts' messages have none. */
  #runOn(worker: Worker, upstreamId: string | undefined): AttemptRun | undefined {
    for (const run of this.#on(worker)) {
      if (upstreamId === undefined ? run.phase === 'running' : run.upstreamId === upstreamId) return run
    }
    return undefined
  }

  #on(worker: Worker): Iterable<AttemptRun> {
    return this.#runsOf.get(worker.id) ?? []
  }

  #newRun(prompt: Prompt, worker: Worker, slot: InFlight): AttemptRun {
    const run = new AttemptRun(prompt, worker, slot, this.#services)
    this.#runs.set(prompt.promptId, run)
    const siblings = this.#runsOf.get(worker.id)
    if (siblings) siblings.add(run)
    else this.#runsOf.set(worker.id, new Set([run]))
    return run
  }

  /** A worker whose execution thread has died answers as before, but its queue does not move. */
  #noticeStall(run: AttemptRun): void {
    const { settings, log, now, queue } = this.#options
    const quietMs = run.quietMs(now())
    const limitMs = settings.stallMs || STALL_ALERT_MS
    if (quietMs < limitMs || this.#alerted.has(run)) return
    this.#alerted.add(run)
    const reason = `nothing was heard of it for ${Math.round(quietMs / 1000)} s`
    log.warn({ promptId: run.prompt.promptId, workerId: run.worker.id, quietMs }, 'a running prompt does not move')
    queue.note(run.prompt.promptId, reason)
    if (settings.stallMs === 0) return
    run.worker.stalledOn = run.upstreamId
    void run.stall(reason)
  }

  /** Prompts of ours on a worker that we have given up there: late, unwanted, and in the way. */
  #clearStrays(worker: Worker, queue: RemoteQueue, ours: ReadonlySet<string>): void {
    const isStray = ({ id, clientId }: { id: string; clientId: string | undefined }) =>
      clientId === worker.config.upstreamClientId && !ours.has(id)
    const pending = queue.pending.filter(isStray).map(({ id }) => id)
    const running = queue.running.filter(isStray).map(({ id }) => id)
    if (pending.length === 0 && running.length === 0) return
    this.#options.log.warn({ workerId: worker.id, pending, running }, 'a worker holds prompts that were given up there')
    const calls = [
      ...(pending.length > 0 ? [worker.client.deletePending(pending)] : []),
      ...running.map((id) => worker.client.interrupt(id)),
    ]
    Promise.all(calls).catch((error: unknown) => {
      this.#options.log.warn({ workerId: worker.id, err: error }, 'given-up prompts could not be cleared')
    })
  }
}
