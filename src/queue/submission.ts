import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { Identity } from '../auth/identity.ts'
import type { Sealer } from '../auth/sealer.ts'
import { isCanonicalUuid } from '../comfyui/protocol.ts'
import { quotePython } from '../comfyui/python-json.ts'
import { member, parseJson } from '../comfyui/raw-json.ts'
import { type Verdict, validatePrompt } from '../comfyui/validate.ts'
import { StoppingError } from '../errors.ts'
import type { InputBinder } from '../files/bindings.ts'
import { readFileLiteral } from '../files/names.ts'
import type { InputBinding, PromptTraits } from '../scheduler/traits.ts'
import type { NewPrompt, PromptId, PromptRecord, PromptStore, WorkerId } from '../store/store.ts'
import type { WorkerCatalogue } from '../workers/catalogue.ts'
import type { WorkerRegistry } from '../workers/registry.ts'
import type { Worker } from '../workers/worker.ts'
import type { DispatchVerdict } from './attempt-run.ts'
import type { Dispatcher, Reservation } from './dispatcher.ts'
import { retryUntil } from './durably.ts'
import { numberText } from './outcome.ts'
import type { Prompt } from './prompt.ts'
import { bodyToKeep, literalsOf, sizesOf } from './prompt-body.ts'
import type { PromptQueue } from './queue.ts'
import { ComfyAnswer, JSON_TYPE, readSubmittedBody, type SubmittedBody } from './submitted-body.ts'

export interface SubmissionOptions {
  store: PromptStore
  queue: PromptQueue
  dispatcher: Dispatcher
  registry: WorkerRegistry
  catalogue: WorkerCatalogue
  sealer: Sealer
  inputs: InputBinder
  /** Milliseconds that the verdict of an idle worker is awaited. */
  verdictTimeoutMs: number
  /** Ends what is tried again and again. */
  signal: AbortSignal
  log: Logger
}

export interface SubmitAnswer {
  record: PromptRecord
  /** Body of the 200. */
  text: string
  /** The same prompt was submitted before. */
  isRepeat: boolean
}

/** How old object_info may be when a refusal rests on what it does not list. */
const FRESH_ENOUGH_MS = 10_000
const REFRESH_TIMEOUT_MS = 1_000
/** From this release on a fleet's refusals use the words of 2026. */
const NEW_WORDS_SINCE = [0, 9]

/** The way in: reads, checks, stores, and gets the verdict of an idle worker where there is one. */
export class Submission {
  readonly #options: SubmissionOptions
  /** What is being found out about prompts whose verdict is awaited. */
  readonly #verdicts = new Map<PromptId, Promise<string | undefined>>()
  #isStopped = false

  constructor(options: SubmissionOptions) {
    this.#options = options
  }

  /** Refuses everything from now on. */
  stop(): void {
    this.#isStopped = true
  }

  /**
   * Takes a prompt in. `onId` is called with its id before anything about it can happen; `workerId` binds it to one
   * worker. Resolves when it is durable. Throws ComfyAnswer or HttpError when it is refused; nothing of it is kept then.
   */
  async submit(
    bytes: Uint8Array,
    who: Identity,
    onId: (promptId: string) => void,
    { workerId }: { workerId?: WorkerId | undefined } = {},
  ): Promise<SubmitAnswer> {
    if (this.#isStopped) throw new StoppingError(5)
    this.#options.queue.assertRoom()
    const body = readSubmittedBody(bytes)
    const verdict = await this.#check(body)
    const free = this.#traitsOf(body, verdict, await this.#options.inputs.bind([...literalsOf(body.graph)], who))
    const traits = workerId === undefined ? free : { ...free, pinnedWorkerIds: [workerId] }
    const promptId = body.promptId ?? randomUUID()
    // A client's id can be used again; history of its first use may still be on workers, so later uses get ids of ours.
    const isFirstUse = body.promptId === undefined || (await this.#options.store.get(promptId)) === undefined
    const upstreamId = isFirstUse && isCanonicalUuid(promptId) ? promptId : randomUUID()
    const kept = bodyToKeep(body.text, body.root, this.#options.sealer)
    onId(promptId)
    const reservation = this.#options.dispatcher.reserveIdle(traits, { promptId, upstreamId })
    const wanted: NewPrompt = {
      promptId,
      upstreamId,
      gatewayJobId: randomUUID(),
      owner: who.owner,
      caller: who.caller,
      clientId: body.clientId,
      priority: body.priority,
      order: body.order,
      admitted: reservation === undefined,
      bodyHash: body.hash,
      traits,
      workflowId: body.workflowId,
      body: kept,
    }
    return this.#admit(wanted, { reservation, nodeErrors: verdict.nodeErrors, saidPriority: body.saidPriority })
  }

  async #admit(
    wanted: NewPrompt,
    how: { reservation: Reservation | undefined; nodeErrors: string; saidPriority: boolean },
  ): Promise<SubmitAnswer> {
    const { queue, dispatcher } = this.#options
    let reservation = how.reservation
    try {
      const admitted = await queue.admit(wanted)
      if (admitted.kind === 'known') {
        if (reservation) dispatcher.release(reservation) // The first may need that worker.
        reservation = undefined
        await this.#verdicts.get(wanted.promptId) // A refusal is that of both.
        return { record: admitted.record, text: answerText(admitted.record, '{}', how), isRepeat: true }
      }
      const { prompt } = admitted
      let { nodeErrors } = how
      if (reservation) {
        const taken = reservation
        reservation = undefined
        const verdict = this.#verdictOf(prompt, taken).finally(() => this.#verdicts.delete(prompt.promptId))
        this.#verdicts.set(prompt.promptId, verdict)
        nodeErrors = (await verdict) ?? nodeErrors
      }
      return { record: prompt.record, text: answerText(prompt.record, nodeErrors, how), isRepeat: false }
    } finally {
      if (reservation) dispatcher.release(reservation)
    }
  }

  /** Node errors of the worker that took it; undefined when none did in time. Throws the worker's refusal. */
  async #verdictOf(prompt: Prompt, first: Reservation): Promise<string | undefined> {
    const { queue, dispatcher, verdictTimeoutMs } = this.#options
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(), verdictTimeoutMs)
    const late = new Promise<'late'>((resolve) => deadline.signal.addEventListener('abort', () => resolve('late')))
    let pending: Promise<DispatchVerdict> | undefined
    try {
      for (let next: Reservation | undefined = first; next; ) {
        pending = dispatcher.dispatch(prompt, next).verdict
        const verdict = await Promise.race([pending, late])
        if (verdict === 'late') break
        throwRefusal(verdict)
        if (verdict.kind === 'accepted') return nodeErrorsOf(verdict.answer)
        next =
          prompt.record.status === 'queued'
            ? dispatcher.reserveIdle(prompt.record.traits, { ...prompt.record, avoided: prompt.avoided })
            : undefined
      }
      return undefined
    } finally {
      clearTimeout(timer)
      // After a refusal it is gone, and nothing happens here.
      const isKept = queue.get(prompt.promptId) !== prompt || (await this.#publish(prompt))
      // It was refused at the very moment it became late.
      if (!isKept && pending) throwRefusal(await pending)
    }
  }

  /** The prompt is kept already, so its submitter is not sent away when the store fails here. False when it is gone. */
  async #publish(prompt: Prompt): Promise<boolean> {
    const { queue, dispatcher, signal, log } = this.#options
    try {
      return await queue.publish(prompt)
    } catch {
      retryUntil(signal, () => queue.publish(prompt)).then(
        () => dispatcher.wake(),
        (err: unknown) => log.warn({ promptId: prompt.promptId, err }, 'a prompt could not be made visible'),
      )
      return true
    }
  }

  async #check(body: SubmittedBody): Promise<Verdict & { kind: 'ok' }> {
    const { catalogue, registry } = this.#options
    const check = (): Verdict =>
      validatePrompt({
        graph: body.graph,
        infos: catalogue.infos(),
        partialExecutionTargets: body.partialExecutionTargets,
        dialect: this.#dialect(),
      })
    let verdict = check()
    if (verdict.kind === 'refused' && (verdict.unlisted.length > 0 || verdict.unknownClass !== undefined)) {
      // Files and packs appear while workers run: what is not listed may be there by now.
      const timeout = AbortSignal.timeout(REFRESH_TIMEOUT_MS)
      const timedOut = new Promise((resolve) => timeout.addEventListener('abort', resolve))
      await Promise.race([catalogue.refresh(registry.list(), { maxAgeMs: FRESH_ENOUGH_MS }), timedOut])
      verdict = check()
    }
    if (verdict.kind === 'refused') throw new ComfyAnswer(verdict.status, verdict.contentType, verdict.body)
    return verdict
  }

  #dialect(): '0.3.64' | '2026' {
    const versions = this.#options.registry.list().flatMap(({ version }) => version ?? [])
    const isNew = (version: string): boolean => {
      const [major = 0, minor = 0] = version.split('.').map(Number)
      const [sinceMajor = 0, sinceMinor = 0] = NEW_WORDS_SINCE
      return major > sinceMajor || (major === sinceMajor && minor >= sinceMinor)
    }
    return versions.length > 0 && versions.every(isNew) ? '2026' : '0.3.64'
  }

  #traitsOf(body: SubmittedBody, verdict: Verdict & { kind: 'ok' }, inputs: readonly InputBinding[]): PromptTraits {
    const bound = new Set(inputs.flatMap(({ literal, type }) => (type === 'held' ? [] : [literal])))
    const pinned = new Set<string>()
    for (const { value } of literalsOf(body.graph)) {
      const holder = bound.has(value) ? undefined : this.#holderOf(value)
      if (holder) pinned.add(holder.id)
    }
    // A literal in the gateway's form is no choice that a worker lists, and a file that is brought along need not be.
    const combos = verdict.traits.combos.filter(({ value }) => !bound.has(value) && !this.#holderOf(value))
    return {
      classTypes: verdict.traits.classTypes,
      combos,
      outputs: verdict.outputs,
      sizes: sizesOf(body.graph),
      nodeCount: body.graph.kind === 'object' ? body.graph.members.length : 0,
      hasPaidNodes: verdict.traits.hasPaidNodes,
      pinnedWorkerIds: [...pinned],
      inputs,
    }
  }

  /** The worker on whose disk the file is that a literal names in the gateway's form. */
  #holderOf(literal: string): Worker | undefined {
    const token = readFileLiteral(literal)?.token
    const found = token === undefined ? undefined : this.#options.registry.byToken(token)
    return found?.isCurrent ? found.worker : undefined
  }
}

function answerText(record: PromptRecord, nodeErrors: string, how: { saidPriority: boolean }): string {
  const own = how.saidPriority ? `, "gateway_job_id": ${quotePython(record.gatewayJobId)}, "status": "queued"` : ''
  return (
    `{"prompt_id": ${quotePython(record.promptId)}, "number": ${numberText(record)}, ` +
    `"node_errors": ${nodeErrors}${own}}`
  )
}

function throwRefusal(verdict: DispatchVerdict): void {
  if (verdict.kind === 'refused') throw new ComfyAnswer(400, JSON_TYPE, verdict.text)
}

/** Read from the worker's text, so that numbers in it stay as they are. `{}` when that cannot be read: it was taken. */
function nodeErrorsOf(answer: string): string {
  try {
    const node = member(parseJson(answer), 'node_errors')
    return node?.kind === 'object' ? answer.slice(node.start, node.end) : '{}'
  } catch {
    return '{}'
  }
}
