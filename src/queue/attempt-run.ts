import type { Logger } from 'pino'
import type { Sealer } from '../auth/sealer.ts'
import { type SubmitReply, WorkerCallError } from '../comfyui/client.ts'
import {
  isExecutingNull,
  promptIdOf,
  type RemoteQueue,
  terminalTypeOf,
  type WorkerMessage,
} from '../comfyui/protocol.ts'
import { StoreUnavailableError } from '../errors.ts'
import { type DeliveredInputs, type InputDelivery, InputLostError } from '../files/delivery.ts'
import type { WorkerDisks } from '../files/disks.ts'
import { takesImageIds } from '../files/images/image-ids.ts'
import { withClientNames } from '../files/name-beside.ts'
import { readFileLiteral } from '../files/names.ts'
import type { Attempt, PromptBody, PromptStore } from '../store/store.ts'
import type { InFlight, Worker } from '../workers/worker.ts'
import { retryUntil } from './durably.ts'
import type { PromptEvents } from './events.ts'
import type { MappedEntry } from './history-entry.ts'
import type { Prompt } from './prompt.ts'
import { bodyForWorker } from './prompt-body.ts'
import type { PromptQueue } from './queue.ts'
import { RunMessages } from './run-messages.ts'
import { type ResultLook, ResultReader } from './run-result.ts'
import { TaskLine } from './task-line.ts'

/** What became of the dispatch, for the one who submitted and waits. */
export type DispatchVerdict =
  /** The worker has it; `answer` is the text of its 200. */
  | { kind: 'accepted'; answer: string }
  /** The worker's own 400. */
  | { kind: 'refused'; text: string }
  /** Neither: it waits again, or ended otherwise. */
  | { kind: 'none' }

/** Why an attempt is over without a result. */
export interface Failed {
  /** The attempt may have begun to run. */
  sent: boolean
  /** Its worker died while it ran. */
  workerDied: boolean
  reason: string
  /** It would fail anywhere. */
  isFinal?: boolean
}

/** What the run leaves to the dispatcher to decide. */
export interface RunOwner {
  refused(run: AttemptRun, text: string): Promise<void>
  failed(run: AttemptRun, failure: Failed): Promise<void>
  /** The worker's entry is there; true when the dispatcher took the prompt elsewhere instead of ending it. */
  reroute(run: AttemptRun, entry: MappedEntry): Promise<boolean>
  over(run: AttemptRun): void
  /** A worker has confirmed or given back a prompt, so it may have room. */
  hasRoom(): void
  /** A prompt could not be claimed: no more are, for a moment. */
  storeFailed(): void
  callFailed(worker: Worker, error: WorkerCallError): void
  callSucceeded(worker: Worker): void
  /** True when nothing of ours is ahead of it on its worker: once the worker has it, it may have begun. */
  isFirst(run: AttemptRun): boolean
  lookAtQueue(worker: Worker): void
  hearAgain(worker: Worker): void
}

export interface RunServices {
  queue: PromptQueue
  store: PromptStore
  events: PromptEvents
  disks: WorkerDisks
  sealer: Sealer
  inputs: Pick<InputDelivery, 'deliver' | 'forget'>
  owner: RunOwner
  /** True for a token that stands for this worker's disk. */
  isTokenOf(worker: Worker, token: string): boolean
  promptTimeoutMs: number
  fence: () => number
  log: Logger
  now: () => number
  signal: AbortSignal
}

/**
 * - `claiming`, `posting`: on its way. `unsure`: the call broke and nobody knows whether it arrived.
 * - `accepted`: in the worker's queue. `running`: it has started.
 * - `ending`: its result is being fetched and stored. `leaving`: it is over without one, and goes elsewhere or fails.
 */
export type RunPhase = 'claiming' | 'posting' | 'unsure' | 'accepted' | 'running' | 'ending' | 'leaving' | 'over'

/** Between the two looks that make sure that a call in doubt has not arrived. */
const SECOND_LOOK_MS = 300
/** A terminal message without the `executing null` behind it is believed after this. */
const NULL_GRACE_MS = 1_000
/** History is written before the last message, so an answer without it means that it is gone. */
const HISTORY_TRIES = 4
/** A worker that answers but gives no readable history for so many deadlines of a POST has lost the result. */
const UNREADABLE_DEADLINES = 3
/** Text that may wait while the store is away, characters; beyond it only what decides the end is kept. */
const MAX_WAITING_CHARS = 8 * 1024 * 1024

/** One attempt: brings a prompt to a worker, follows it there, and brings the result back. */
export class AttemptRun {
  readonly prompt: Prompt
  readonly worker: Worker
  readonly verdict: Promise<DispatchVerdict>
  attempt: Attempt | undefined
  #phase: RunPhase = 'claiming'
  readonly #services: RunServices
  readonly #log: Logger
  #tellVerdict: (verdict: DispatchVerdict) => void = () => undefined
  #isCancelled = false
  #isLost = false
  #lostReason = ''
  /** Ends the calls that ask the worker for the result. */
  readonly #calls = new AbortController()
  #acceptedAt = 0
  #sentChars: number | undefined
  #unsureSince = 0
  #absentSince: number | undefined
  #unheardLooks = 0
  #waitingChars = 0
  #waitingPreview: Buffer | undefined
  #heardAt = 0
  readonly #slot: InFlight
  readonly #messages: RunMessages
  readonly #result: ResultReader
  readonly #line = new TaskLine((error) => this.#report(error))
  readonly #gone: Promise<void>
  #tellGone: () => void = () => undefined

  /** `slot` was reserved on the worker when it was chosen. */
  constructor(prompt: Prompt, worker: Worker, slot: InFlight, services: RunServices) {
    this.prompt = prompt
    this.worker = worker
    this.#slot = slot
    this.#services = services
    this.#log = services.log.child({ promptId: prompt.promptId, workerId: worker.id })
    this.verdict = new Promise((resolve) => {
      this.#tellVerdict = resolve
    })
    this.#gone = new Promise((resolve) => {
      this.#tellGone = resolve
    })
    const { events, disks, signal } = services
    this.#messages = new RunMessages({ prompt, worker, events, disks, log: this.#log, signal })
    this.#result = new ResultReader({
      worker,
      upstreamId: this.upstreamId,
      promptChars: () => this.#charsSent(),
      unreadableAfterMs: UNREADABLE_DEADLINES * services.promptTimeoutMs,
      callFailed: (error) => services.owner.callFailed(worker, error),
      now: services.now,
    })
  }

  get phase(): RunPhase {
    return this.#phase
  }

  get upstreamId(): string {
    return this.prompt.record.upstreamId
  }

  get isCancelled(): boolean {
    return this.#isCancelled
  }

  /** The frames of this run reached the client from its start on. */
  get wasStartTold(): boolean {
    return this.#messages.wasStartTold
  }

  /** Claims, posts, and settles what comes of it. The worker's slot is reserved already. Does not throw. */
  async start(why: string): Promise<void> {
    const { queue, store } = this.#services
    if (this.#isLost) return this.#close()
    try {
      this.attempt = await queue.claim(this.prompt, {
        workerId: this.worker.id,
        fence: this.#services.fence(),
        log: why,
      })
      const body = this.attempt && (await store.readBody(this.prompt.promptId))
      if (!body) return this.#close()
      if (this.#isLost) return await this.#giveUp({ sent: false, workerDied: false, reason: this.#lostReason })
      if (this.#isCancelled) return await this.#endCancelled()
      await this.#post(body)
    } catch (error) {
      await this.#startFailed(error).catch((failure: unknown) => this.#report(failure))
    }
  }

  async #startFailed(error: unknown): Promise<void> {
    const { owner, queue, signal } = this.#services
    if (error instanceof WorkerCallError) return this.#postFailed(error)
    this.#log.error({ err: error }, 'a prompt could not be dispatched')
    if (!this.attempt) {
      owner.storeFailed()
      this.#close()
      if (this.#isCancelled) await retryUntil(signal, () => queue.cancelWaiting(this.prompt, 'deleted'))
      return
    }
    // What is not the store's fault happens again each time, so it counts.
    const sent = !(error instanceof StoreUnavailableError)
    await owner.failed(this, { sent, workerDied: false, reason: 'it could not be read' })
    this.#close()
  }

  /** Takes up an attempt that another process left: nobody knows yet what became of it. */
  adopt(attempt: Attempt): void {
    this.attempt = attempt
    this.#becomeUnsure()
    this.#tellVerdict({ kind: 'none' })
  }

  /** The worker says something about this prompt. */
  hear(message: WorkerMessage, text: string): void {
    const isEnd = isExecutingNull(message) || terminalTypeOf(message) !== undefined
    // While the store is away messages wait for names of files. History has the outputs of those that are dropped.
    if (!isEnd && this.#waitingChars + text.length > MAX_WAITING_CHARS && this.#line.isWorking) return
    this.#waitingChars += text.length
    this.#line.add(() => {
      this.#waitingChars -= text.length
      return this.#hear(message, text)
    })
  }

  /** A binary frame of this prompt. Of previews that have to wait only the newest is kept. */
  seeFrame(bytes: Buffer, { isResult }: { isResult: boolean }): void {
    if (isResult) {
      this.#line.add(() => this.#frame(bytes))
      return
    }
    const isWaiting = this.#waitingPreview !== undefined
    this.#waitingPreview = bytes
    if (isWaiting) return
    this.#line.add(() => {
      const newest = this.#waitingPreview
      this.#waitingPreview = undefined
      if (newest) this.#frame(newest)
    })
  }

  /** The worker's queue as it was some time after `askedAt`. */
  queueSeen(queue: RemoteQueue, askedAt: number): void {
    this.#line.add(() => this.#queueSeen(queue, askedAt))
  }

  /** The worker is given up. `isFirst`: nothing of ours was ahead of it there. Does not throw. */
  async lost(reason: string, { isFirst }: { isFirst: boolean }): Promise<void> {
    if (this.#phase === 'over' || this.#phase === 'leaving') return
    this.#isLost = true
    this.#lostReason = reason
    this.#calls.abort()
    if (this.#phase === 'claiming' || this.#phase === 'ending') return // Whoever claims it or fetches the result notices.
    const begun = this.#mayHaveBegun({ isFirst })
    const sent = begun || this.#phase === 'posting' || this.#phase === 'unsure'
    await this.#giveUp({ sent, workerDied: begun, reason }).catch((error: unknown) => this.#report(error))
  }

  /** Milliseconds since its worker said anything about it, while it runs. */
  quietMs(now: number): number {
    return this.#phase === 'running' ? now - this.#heardAt : 0
  }

  /** Its worker does not get on with it: stopped there, as far as it can be, and tried elsewhere. Does not throw. */
  async stall(reason: string): Promise<void> {
    if (this.#phase !== 'running') return
    this.prompt.avoided.add(this.worker.id)
    await this.#askToStop('interrupt')
    if (this.#phase !== 'running') return
    await this.#giveUp({ sent: true, workerDied: true, reason }).catch((error: unknown) => this.#report(error))
  }

  /**
   * Takes a prompt back that is on the worker but does not run: without trace, its messages are dropped. Resolves when it
   * is gone, so that whoever deleted it does not find it listed any more; with a worker that is away that may be never.
   */
  async cancel(): Promise<void> {
    if (this.#phase === 'over' || this.#phase === 'ending') return
    this.#isCancelled = true
    if (this.#phase === 'claiming' || this.#phase === 'leaving') return // It is not sent, nor sent again.
    this.#services.queue.note(this.prompt.promptId, 'to be deleted; its worker is asked to drop it')
    await this.#askToStop('delete')
    this.#services.owner.lookAtQueue(this.worker)
    await this.#gone
  }

  /** Stops it if it runs. The end comes as the worker's own `execution_interrupted`. */
  async interrupt(): Promise<void> {
    if (this.#phase !== 'running') return
    this.prompt.isInterrupted = true
    await this.#askToStop('interrupt')
  }

  async #post(body: PromptBody): Promise<void> {
    const { owner, inputs } = this.#services
    this.#phase = 'posting'
    const delivered = await this.#deliver()
    if (!delivered) return
    let reply = await this.#submit(body, delivered)
    if (reply.kind === 'refused' && delivered.literals.size > 0) {
      // It may have lost what it was known to have.
      inputs.forget(this.worker.id)
      if (delivered.isFromMemory && this.#phase === 'posting') {
        const again = await this.#deliver()
        if (!again) return
        reply = await this.#submit(body, again)
      }
    }
    if (reply.kind === 'refused') {
      owner.callSucceeded(this.worker)
      if (this.#phase !== 'posting') return // Given up meanwhile.
      if (this.#isCancelled) return this.#endCancelled()
      this.#phase = 'leaving'
      this.#release()
      await owner.refused(this, this.#withClientNames(reply.text))
      return this.#close()
    }
    if (reply.upstreamId !== this.upstreamId) {
      throw new WorkerCallError('protocol', 'POST /prompt answered with the id of another prompt')
    }
    // It may run already, or have ended: its messages travel on another connection than this answer.
    owner.callSucceeded(this.worker)
    this.#accepted()
    this.#tellVerdict({ kind: 'accepted', answer: this.#withClientNames(reply.text) })
    // What asked it to drop the prompt may have come there before the prompt did.
    if (this.#isCancelled && !this.#isOver()) {
      await this.#askToStop('delete')
      owner.lookAtQueue(this.worker) // Should it run by now, it is interrupted.
    }
  }

  #submit(body: PromptBody, { literals, images }: DeliveredInputs): Promise<SubmitReply> {
    const text = bodyForWorker(body, {
      upstreamId: this.upstreamId,
      upstreamClientId: this.worker.config.upstreamClientId,
      info: this.worker.info,
      ownName: (literal, classType) =>
        (takesImageIds(classType) ? images.get(literal) : undefined) ?? literals.get(literal) ?? this.#ownName(literal),
      sealer: this.#services.sealer,
    })
    this.#sentChars = text.length
    return this.worker.client.submit(text, { timeoutMs: this.#services.promptTimeoutMs })
  }

  /** Sees to it that the worker has the prompt's files. Undefined when the attempt has ended: nothing was sent then. */
  async #deliver(): Promise<DeliveredInputs | undefined> {
    const bound = this.prompt.record.traits.inputs
    if (bound.length === 0) return { literals: new Map(), images: new Map(), isFromMemory: true }
    const { inputs, owner, signal } = this.#services
    try {
      const delivered = await inputs.deliver(this.worker, bound, { signal })
      if (this.#phase !== 'posting') return undefined // Given up meanwhile.
      if (!this.#isCancelled) return delivered
      await this.#endCancelled()
      return undefined
    } catch (error) {
      const isLost = error instanceof InputLostError
      if (!isLost && !(error instanceof WorkerCallError)) throw error
      if (!isLost) {
        this.prompt.avoided.add(this.worker.id)
        owner.callFailed(this.worker, error)
      }
      if (this.#phase !== 'posting') return undefined
      this.#log.warn({ err: error }, 'the files of a prompt could not be brought to a worker')
      const reason = isLost ? error.message : `its files could not be brought to ${this.worker.config.name}`
      await this.#giveUp({ sent: false, workerDied: false, reason, isFinal: isLost })
      return undefined
    }
  }

  async #postFailed(error: WorkerCallError): Promise<void> {
    const { owner } = this.#services
    this.prompt.avoided.add(this.worker.id)
    owner.callFailed(this.worker, error)
    if (this.#phase !== 'posting') return this.#tellVerdict({ kind: 'none' }) // It was heard of, or given up.
    this.#log.warn({ err: error }, 'a prompt could not be sent')
    if (!error.mayHaveArrived) {
      return this.#giveUp({ sent: false, workerDied: false, reason: `it could not be reached (${error.message})` })
    }
    this.#becomeUnsure()
    owner.lookAtQueue(this.worker)
  }

  #becomeUnsure(): void {
    this.#phase = 'unsure'
    this.#unsureSince = this.#services.now()
    this.#absentSince = undefined
  }

  #accepted(): void {
    if (this.#phase === 'running' || this.#isOver()) return
    this.#phase = 'accepted'
    this.#acceptedAt = this.#services.now()
    this.#slot.phase = 'accepted'
    this.#services.owner.hasRoom()
  }

  async #hear(message: WorkerMessage, text: string): Promise<void> {
    if (this.#isOver() || message.type === 'status') return
    this.#heardAt = this.#services.now()
    // An end that names no prompt may be that of anything.
    const isNamed = promptIdOf(message) !== undefined
    if (isExecutingNull(message)) return isNamed ? this.#conclude() : undefined
    if (terminalTypeOf(message)) {
      if (!isNamed) return
      this.#messages.keepTerminal(text)
      setTimeout(() => this.#line.add(() => this.#conclude()), NULL_GRACE_MS).unref()
      return
    }
    if (message.type === 'execution_start' || this.#phase !== 'running') this.#runs()
    if (this.#isCancelled) return message.type === 'execution_start' ? this.#askToStop('interrupt') : undefined
    await this.#messages.tell(message, text)
  }

  #frame(bytes: Buffer): void {
    if (this.#phase !== 'running' || this.#isCancelled) return
    this.#heardAt = this.#services.now()
    this.#messages.tellFrame(bytes)
  }

  #queueSeen(queue: RemoteQueue, askedAt: number): void | Promise<void> {
    if (this.#phase === 'claiming' || this.#phase === 'posting' || this.#isOver()) return
    if (askedAt < this.#acceptedAt) return
    const isRunning = queue.running.some(({ id }) => id === this.upstreamId)
    const isPending = queue.pending.some(({ id }) => id === this.upstreamId)
    if (isRunning || isPending) {
      this.#absentSince = undefined
      if (this.#isCancelled) return this.#askToStop(isRunning ? 'interrupt' : 'delete')
      if (this.#phase === 'unsure') {
        this.#services.queue.note(this.prompt.promptId, `found in the queue of ${this.worker.config.name}`)
        this.#accepted()
      }
      if (isRunning) return this.#seenRunning()
      return
    }
    return this.#absent(askedAt)
  }

  #seenRunning(): void | Promise<void> {
    const isNew = this.#phase !== 'running'
    if (isNew) this.#runs()
    if (this.prompt.isInterrupted) return this.#askToStop('interrupt')
    if (this.#messages.wasStartTold) return
    // Its start was said while nobody listened, or the worker has forgotten our socket.
    this.#unheardLooks++
    if (!this.#isCancelled) this.#messages.tellStart()
    if (this.#unheardLooks > 1 || isNew) this.#services.owner.hearAgain(this.worker)
  }

  /** It is in the worker's queue no more (or not yet): only history can tell. */
  async #absent(askedAt: number): Promise<void> {
    // Before any wait: those ahead of it may be given up for the same reason.
    const begun = this.#mayHaveBegun({ isFirst: this.#services.owner.isFirst(this) })
    const look = await this.#result.look(this.#ended())
    if (this.#isOver()) return
    if (look.kind === 'unknown') return this.#result.isUnreadable ? this.#giveUpResult() : undefined
    if (look.kind === 'found') return this.#conclude(look)
    if (this.#phase === 'unsure' && !this.#isCancelled) {
      // A call that broke may still be on its way through the worker's event loop: look once more.
      if (this.#absentSince === undefined || askedAt < this.#unsureSince) {
        this.#absentSince = askedAt
        setTimeout(() => this.#services.owner.lookAtQueue(this.worker), SECOND_LOOK_MS).unref()
        return
      }
      return this.#giveUp({ sent: true, workerDied: false, reason: 'its worker does not have it' })
    }
    if (this.#isCancelled) return this.#endCancelled()
    if (this.#messages.hasTerminal) return this.#conclude()
    return this.#giveUp({ sent: begun, workerDied: begun, reason: 'its worker has forgotten it' })
  }

  /** It ran, as far as anybody can know: a crash at the first step leaves no time for a word about it. */
  #mayHaveBegun({ isFirst }: { isFirst: boolean }): boolean {
    return this.#phase === 'running' || (this.#phase === 'accepted' && isFirst)
  }

  #runs(): void {
    if (this.#phase === 'running') return
    this.#accepted()
    this.#phase = 'running'
    this.#acceptedAt = this.#services.now()
    this.#heardAt = this.#acceptedAt
    this.#slot.phase = 'running'
    const { queue } = this.#services
    const attempt = this.attempt
    if (!attempt || this.#isCancelled) return
    queue.started(this.prompt, attempt).catch((error: unknown) => {
      this.#log.warn({ err: error }, 'the start of a prompt could not be stored')
    })
  }

  /** Fetches, maps and stores the result; the terminal messages follow from the stored entry. */
  async #conclude(known?: ResultLook): Promise<void> {
    if (this.#isOver()) return
    this.#runs()
    this.#phase = 'ending'
    this.#release()
    const look = known ?? (await this.#result.wait(this.#ended(), { tries: HISTORY_TRIES }))
    if (look.kind === 'unknown') {
      if (this.#isLost) return this.#giveUp({ sent: true, workerDied: true, reason: this.#lostReason })
      // When the gateway stops, the next process asks again.
      return this.#result.isUnreadable ? this.#giveUpResult() : undefined
    }
    if (this.#isCancelled) return this.#endCancelled()
    const { store, queue, owner, signal } = this.#services
    const prompt = this.prompt
    const attempt = this.attempt
    if (!attempt) return this.#close()
    const body = await retryUntil(signal, () => store.readBody(prompt.promptId))
    const entry = body && look.kind === 'found' ? await this.#messages.mapAnswer(look.answer, body) : undefined
    if (!entry) {
      return this.#giveUp({ sent: true, workerDied: false, reason: 'its result is not in the history of its worker' })
    }
    if (await owner.reroute(this, entry)) return this.#close()
    try {
      await retryUntil(signal, async () => {
        await queue.publish(prompt)
        await queue.finish(
          prompt,
          attempt.number,
          {
            status: entry.status,
            reason: entry.reason,
            history: entry.text,
            summary: entry.summary,
            files: entry.files,
          },
          { messages: this.#messages.finalMessages(entry), log: `${entry.status} on ${this.worker.config.name}` },
        )
      })
    } catch (error) {
      // A store may refuse a result for its size, which no repetition of the call changes.
      if (signal.aborted) throw error
      this.#log.error({ err: error }, 'a result could not be kept')
      return this.#giveUp({ sent: true, workerDied: false, reason: 'its result could not be kept' })
    }
    this.#close()
  }

  /** Ends the calls for the result: the worker is given up, or the gateway stops. */
  #ended(): AbortSignal {
    return AbortSignal.any([this.#calls.signal, this.#services.signal])
  }

  /** Length of the prompt's text, which is in its history too. */
  async #charsSent(): Promise<number> {
    this.#sentChars ??= (await this.#services.store.readBody(this.prompt.promptId))?.text.length ?? 0
    return this.#sentChars
  }

  #giveUpResult(): Promise<void> {
    return this.#giveUp({ sent: true, workerDied: false, reason: 'its worker gives no history that can be read' })
  }

  async #giveUp(failure: Failed): Promise<void> {
    if (this.#phase === 'over' || this.#phase === 'leaving') return
    this.#phase = 'leaving'
    this.#release()
    if (this.#isCancelled) return this.#endCancelled()
    await this.#services.owner.failed(this, failure)
    this.#close()
  }

  async #endCancelled(): Promise<void> {
    const attempt = this.attempt
    this.#phase = 'leaving'
    this.#release()
    if (attempt) {
      await retryUntil(this.#services.signal, () =>
        this.#services.queue.finish(
          this.prompt,
          attempt.number,
          { status: 'cancelled', reason: 'deleted', history: undefined, summary: undefined, files: [] },
          { messages: [], log: 'deleted' },
        ),
      )
    }
    this.#close()
  }

  async #askToStop(how: 'delete' | 'interrupt'): Promise<void> {
    try {
      if (how === 'delete') await this.worker.client.deletePending([this.upstreamId])
      else await this.worker.client.interrupt(this.upstreamId)
    } catch (error) {
      if (error instanceof WorkerCallError) this.#services.owner.callFailed(this.worker, error)
    }
  }

  #withClientNames(json: string): string {
    return withClientNames(json, this.prompt.record.traits.inputs)
  }

  #ownName(literal: string): string | undefined {
    const read = readFileLiteral(literal)
    return read && this.#services.isTokenOf(this.worker, read.token) ? read.ownName : undefined
  }

  /** Nothing that the worker says of it counts any more. */
  #isOver(): boolean {
    return this.#phase === 'over' || this.#phase === 'ending' || this.#phase === 'leaving'
  }

  /** Gives the slot back as soon as the worker is done with it: fetching the result must not keep it idle. */
  #release(): void {
    if (this.worker.inFlight.get(this.prompt.promptId) !== this.#slot) return
    this.worker.release(this.#slot)
    this.#services.owner.hasRoom()
  }

  #close(): void {
    if (this.#phase === 'over') return
    this.#phase = 'over'
    this.#release()
    this.#tellVerdict({ kind: 'none' })
    this.#services.owner.over(this)
    this.#tellGone()
  }

  /** Resolves the verdict with the worker's refusal; the submitter answers with it. */
  tellRefusal(text: string): void {
    this.#tellVerdict({ kind: 'refused', text })
  }

  /** What was under way when the gateway stops is taken up by the next process. */
  #report(error: unknown): void {
    if (!this.#services.signal.aborted) this.#log.error({ err: error }, 'following a prompt failed')
  }
}
