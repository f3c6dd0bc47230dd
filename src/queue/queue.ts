import type { Logger } from 'pino'
import { QueueFullError } from '../errors.ts'
import type {
  Attempt,
  FinishedOutcome,
  NewPrompt,
  PromptId,
  PromptRecord,
  PromptStore,
  WorkerId,
} from '../store/store.ts'
import type { PromptEvents } from './events.ts'
import { Prompt } from './prompt.ts'
import { WaitingLine } from './waiting-line.ts'

export interface PromptQueueOptions {
  store: PromptStore
  events: PromptEvents
  /** Waiting prompts at most. */
  maxQueue: number
  idempotencyMs: number
  log: Logger
}

export type AdmitResult = { kind: 'admitted'; prompt: Prompt } | { kind: 'known'; record: PromptRecord }

/** Seconds a client is asked to wait before it tries a full queue again. */
const FULL_RETRY_S = 10

/**
 * The prompts that have not ended: the only writer of prompt states. Each method is one atomic verb of the store, after
 * which memory follows and the event is published; when the store refuses (a stale attempt, a prompt that ended
 * meanwhile) memory stays as it is and the method says so.
 */
export class PromptQueue {
  readonly #options: PromptQueueOptions
  readonly #prompts = new Map<PromptId, Prompt>()
  readonly #line = new WaitingLine<Prompt>()
  #revision = 0

  constructor(options: PromptQueueOptions) {
    this.#options = options
  }

  /** Grows with every change that a listing would show. */
  get revision(): number {
    return this.#revision
  }

  /** Waiting prompts in the order they are offered to workers. */
  get waiting(): Iterable<Prompt> {
    return this.#line
  }

  get waitingCount(): number {
    return this.#line.size
  }

  /** All that have not ended, in order of arrival; admitting ones too. */
  all(): Iterable<Prompt> {
    return this.#prompts.values()
  }

  get(promptId: PromptId): Prompt | undefined {
    return this.#prompts.get(promptId)
  }

  /** Where a prompt stands among those that wait, first is 1; undefined when it does not wait. */
  positionOf(promptId: PromptId): number | undefined {
    if (!this.#line.has(promptId)) return undefined
    let position = 0
    for (const prompt of this.#line) {
      position++
      if (prompt.promptId === promptId) return position
    }
    return undefined
  }

  /** Reads what has not ended from the store; those that wait are in line afterwards, the others are answered. */
  async load(): Promise<Prompt[]> {
    const claimed: Prompt[] = []
    for (const record of await this.#options.store.unfinished()) {
      // Its POST was never answered, yet somebody may look for its id: it is taken in rather than lost.
      if (!record.admitted) await this.#options.store.publish(record.promptId)
      const prompt = new Prompt({ ...record, admitted: true })
      this.#prompts.set(prompt.promptId, prompt)
      if (record.status === 'queued') this.#line.add(prompt)
      else claimed.push(prompt)
      this.#options.events.publish({ kind: 'admitted', prompt: prompt.ref })
    }
    this.#changed()
    return claimed
  }

  /** Throws QueueFullError. Asked before the work of reading a prompt is done. */
  assertRoom(): void {
    if (this.#line.size >= this.#options.maxQueue) throw new QueueFullError(this.#options.maxQueue, FULL_RETRY_S)
  }

  /**
   * Takes a prompt in, durably. `wanted.admitted` false: it stays invisible and out of line until `publish`. Throws
   * PromptIdInUseError, StoreUnavailableError.
   */
  async admit(wanted: NewPrompt): Promise<AdmitResult> {
    const admission = await this.#options.store.admit(wanted, { idempotencyMs: this.#options.idempotencyMs })
    if (admission.kind === 'known') {
      this.#takeUp(admission.prompt)
      return { kind: 'known', record: admission.prompt }
    }
    const prompt = new Prompt(admission.prompt)
    this.#prompts.set(prompt.promptId, prompt)
    if (prompt.record.admitted) this.#line.add(prompt)
    this.#changed()
    // Said before its verdict too: its messages may come before the answer to its POST, and wait for that.
    this.#options.events.publish({ kind: 'admitted', prompt: prompt.ref })
    return { kind: 'admitted', prompt }
  }

  /** Makes an admitting prompt visible; it goes in line when no attempt has it. False when it was discarded. */
  async publish(prompt: Prompt): Promise<boolean> {
    if (prompt.record.admitted) return true
    const { store } = this.#options
    if (!(await store.publish(prompt.promptId)) && !prompt.record.admitted) {
      // Either it is gone, or it became visible though the store could not say so.
      if (!(await store.get(prompt.promptId))?.admitted) return false
    }
    prompt.record = { ...prompt.record, admitted: true }
    if (this.#prompts.get(prompt.promptId) !== prompt) return true // It ended while it was published.
    if (prompt.record.status === 'queued') this.#line.add(prompt)
    this.#changed()
    return true
  }

  /** Forgets an admitting prompt: its verdict was no. */
  async discard(prompt: Prompt): Promise<boolean> {
    if (!(await this.#options.store.discard(prompt.promptId))) return false
    this.#gone(prompt)
    this.#options.events.publish({ kind: 'removed', prompt: prompt.ref })
    return true
  }

  /** Takes a prompt out of line for a worker, at once; undefined when the store says that it is no longer queued. */
  async claim(prompt: Prompt, claim: { workerId: WorkerId; fence: number; log: string }): Promise<Attempt | undefined> {
    this.#line.remove(prompt.promptId)
    prompt.record = { ...prompt.record, status: 'dispatching', workerId: claim.workerId }
    this.#changed()
    let attempt: Attempt | undefined
    try {
      attempt = await this.#options.store.startAttempt({ promptId: prompt.promptId, ...claim })
      attempt ??= await this.#lostClaim(prompt, claim)
    } catch (error) {
      this.#backInLine(prompt, { ...prompt.record, status: 'queued' })
      throw error
    }
    if (attempt) prompt.record = { ...prompt.record, attempt: attempt.number }
    return attempt
  }

  /** It has started to run. */
  async started(prompt: Prompt, attempt: Attempt): Promise<void> {
    prompt.record = { ...prompt.record, status: 'running', startedAt: prompt.record.startedAt ?? Date.now() }
    this.#changed()
    await this.#options.store.markRunning(attempt)
  }

  /** Back in line at its old place. Undefined when the attempt is not the newest any more. */
  async requeue(
    prompt: Prompt,
    attempt: Attempt,
    why: { sent: boolean; workerDied: boolean; log: string },
  ): Promise<PromptRecord | undefined> {
    const record =
      (await this.#options.store.requeue(attempt, why)) ??
      (await this.#doneBefore(prompt, attempt.number, (now) => now.status === 'queued'))
    if (!record) return undefined
    prompt.resetProgress()
    this.#backInLine(prompt, { ...record, admitted: prompt.record.admitted })
    this.#options.log.info(
      { promptId: prompt.promptId, workerId: attempt.workerId, reason: why.log },
      'prompt waits again',
    )
    this.#options.events.publish({ kind: 'requeued', prompt: prompt.ref })
    return record
  }

  /**
   * Ends a prompt. `messages` are the frames that its client is still due, the terminal one last; without any it ends
   * without being told. False when a newer attempt has it.
   */
  async finish(
    prompt: Prompt,
    attemptNumber: number,
    outcome: FinishedOutcome,
    options: { messages: readonly string[]; log: string },
  ): Promise<boolean> {
    const record =
      (await this.#options.store.finish({ promptId: prompt.promptId, number: attemptNumber }, outcome, options.log)) ??
      (await this.#doneBefore(prompt, attemptNumber, (now) => now.status === outcome.status))
    if (!record || this.#prompts.get(prompt.promptId) !== prompt) return false
    prompt.record = record
    this.#gone(prompt)
    const kind = outcome.history === undefined ? 'removed' : 'finished'
    if (kind === 'removed') this.#options.events.publish({ kind, prompt: prompt.ref })
    else {
      const { files } = outcome
      this.#options.events.publish({ kind, prompt: prompt.ref, messages: options.messages, files })
    }
    return true
  }

  /** Deletes a prompt that waits, without trace in history. False when it does not wait any more. */
  async cancelWaiting(prompt: Prompt, log: string): Promise<boolean> {
    const record = await this.#options.store.cancelQueued(prompt.promptId, log)
    if (!record) return false
    prompt.record = record
    this.#gone(prompt)
    this.#options.events.publish({ kind: 'removed', prompt: prompt.ref })
    return true
  }

  /** Adds a line to the prompt's own log; the story is not worth an error when the store is away. */
  note(promptId: PromptId, text: string): void {
    this.#options.store.log(promptId, text).catch((error: unknown) => {
      this.#options.log.debug({ promptId, err: error }, 'a line of a prompt log was lost')
    })
  }

  /**
   * A verb whose answer was lost on the way was done all the same, and its repetition changes nothing. The record as it
   * is, when this attempt is the newest and it looks as the verb leaves it; undefined otherwise.
   */
  async #doneBefore(
    prompt: Prompt,
    attemptNumber: number,
    looksDone: (now: PromptRecord) => boolean,
  ): Promise<PromptRecord | undefined> {
    const now = await this.#options.store.get(prompt.promptId)
    const isSame = now?.upstreamId === prompt.record.upstreamId && now.attempt === attemptNumber
    return now && isSame && looksDone(now) ? now : undefined
  }

  /** The attempt of a claim whose answer was lost: nothing was sent under it, so it is this one. */
  async #lostClaim(
    prompt: Prompt,
    claim: { workerId: WorkerId; fence: number; log: string },
  ): Promise<Attempt | undefined> {
    const { store } = this.#options
    const number = prompt.record.attempt + 1
    const claimed = await this.#doneBefore(prompt, number, (now) => now.status === 'dispatching')
    if (claimed?.workerId === undefined) return undefined
    const { promptId } = prompt
    const attempt = { promptId, number, workerId: claimed.workerId }
    if (claimed.workerId === claim.workerId) return attempt
    await store.requeue(attempt, { sent: false, workerDied: false, log: 'the answer to its claim was lost' })
    prompt.record = { ...prompt.record, attempt: number }
    return store.startAttempt({ promptId, ...claim })
  }

  /** A prompt whose admission was not answered by the store in time waits there and nowhere else. */
  #takeUp(record: PromptRecord): void {
    if (record.status !== 'queued' || this.#prompts.has(record.promptId)) return
    const prompt = new Prompt(record)
    this.#prompts.set(prompt.promptId, prompt)
    if (record.admitted) this.#line.add(prompt)
    this.#changed()
    this.#options.events.publish({ kind: 'admitted', prompt: prompt.ref })
    if (!record.admitted) {
      this.publish(prompt).catch((error: unknown) => {
        this.#options.log.warn({ promptId: prompt.promptId, err: error }, 'a prompt could not be made visible')
      })
    }
  }

  #backInLine(prompt: Prompt, record: PromptRecord): void {
    prompt.record = record
    if (record.admitted) this.#line.add(prompt)
    this.#changed()
  }

  #gone(prompt: Prompt): void {
    this.#line.remove(prompt.promptId)
    if (this.#prompts.get(prompt.promptId) === prompt) this.#prompts.delete(prompt.promptId)
    this.#changed()
  }

  #changed(): void {
    this.#revision++
  }
}
