import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { Identity } from '../auth/identity.ts'
import type { PromptEvent, PromptEvents, PromptRef } from '../queue/events.ts'
import type { PromptId } from '../store/store.ts'
import { type Client, Clients } from './clients.ts'
import { HoldBudget } from './hold-budget.ts'
import { fromFrame, fromText } from './message.ts'
import type { DeliveryMode } from './ordered-delivery.ts'
import { statusText } from './own-messages.ts'
import { type ClientSocket, SocketWriter } from './socket-writer.ts'
import { Spool } from './spool.ts'
import { StatusPace } from './status-pace.ts'
import { UnansweredPrompts } from './unanswered.ts'

export interface RelayOptions {
  events: PromptEvents
  delivery: DeliveryMode
  /** Whose prompts `status` counts. */
  statusCount: 'client' | 'fleet'
  fleetCount: () => number
  /** Memory in bytes for messages that wait, over all clients. Small important ones may exceed it. */
  holdBytes: number
  /** Disk in bytes for messages that wait; 4 GiB unless given. */
  spoolBytes?: number
  /** A folder of this process alone; leftovers of the last one are removed. */
  spoolDir: string
  /** Bytes that a socket may be behind. */
  bufferBytes: number
  /** Milliseconds for which an absent client may still be told the end of a prompt. */
  replayMs: number
  /** What `feature_flags` is answered with. */
  features: () => object
  /** Terminal sequences of these prompts were handed to an open socket. */
  onTold: (promptIds: readonly PromptId[]) => void
  log: Pick<Logger, 'error' | 'warn' | 'debug'>
  /** Milliseconds on a clock that never goes back. */
  now?: () => number
  /** Milliseconds; a socket that did not answer the last ping is ended at the next. 30 s unless given. */
  pingMs?: number
  /** Milliseconds without any reading after which a socket that a message waits for is closed. 15 s unless given. */
  stallMs?: number
  /** Sockets in all and of one caller; 10,000 and 1,000 unless given. */
  maxSockets?: number
  maxSocketsPerCaller?: number
}

export interface Relay {
  /** Takes over a socket that has just been opened. Without a client id one is made, and told as `sid`. */
  attach(socket: ClientSocket, who: Identity & { clientId: string | undefined }): void
  /**
   * From now on nothing is sent about this prompt, until `answered` was called as often as this. Called before its POST
   * is processed.
   */
  holdUntilAnswered(promptId: PromptId): void
  /** The answer to the POST has left, or never will. */
  answered(promptId: PromptId): void
  /**
   * Tells the end of a prompt that ended before, with frames as `finished` has them, terminal last: after a restart, or
   * when its POST is repeated. Ignored while the prompt runs or its end is still to be told.
   */
  replay(prompt: PromptRef, messages: readonly string[]): void
  /**
   * Tells every socket of an owner what is about no prompt, such as a custom node's event. Sockets that are behind do
   * not get it, and nobody gets more than `MAX_BROADCASTS` in a second.
   */
  broadcast(owner: string, type: string, text: string): void
  /** Clients that are connected or have something to be told. */
  readonly clientCount: number
  /** Sends what the sockets have been given, closes them with 1001 and ends; sockets that do not read are cut. */
  close(): Promise<void>
}

const DEFAULT_SPOOL_BYTES = 4 * 1024 ** 3
const STOPPING = 'the gateway is stopping'
const CLOSE_DEADLINE_MS = 5_000
/** Messages to everybody in one second: each is sent to every socket. */
const MAX_BROADCASTS = 200
/** When what may not be dropped exceeds the bound this many times, absent clients lose their replay. */
const EMERGENCY_FACTOR = 4

/** Carries what happens to prompts to the sockets of their clients, as one ComfyUI would. */
export function createRelay(options: RelayOptions): Relay {
  return new SocketRelay(options)
}

class SocketRelay implements Relay {
  readonly #options: RelayOptions
  readonly #now: () => number
  readonly #budget: HoldBudget
  readonly #spool: Spool
  readonly #clients: Clients
  readonly #unanswered = new UnansweredPrompts()
  readonly #sockets = new Map<SocketWriter, string>()
  readonly #socketsOf = new Map<string, number>()
  readonly #fleetPace: StatusPace | undefined
  readonly #unsubscribe: () => void
  readonly #timers: NodeJS.Timeout[]
  readonly #broadcasts = { since: 0, count: 0 }
  #told: PromptId[] = []
  #isClosed = false
  #onLastSocket: (() => void) | undefined

  constructor(options: RelayOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    this.#budget = new HoldBudget(options.holdBytes)
    this.#spool = new Spool({
      dir: options.spoolDir,
      maxBytes: options.spoolBytes ?? DEFAULT_SPOOL_BYTES,
      log: options.log,
    })
    this.#clients = new Clients({
      mode: options.delivery,
      fleetCount: options.statusCount === 'fleet' ? options.fleetCount : undefined,
      stallMs: options.stallMs ?? 15_000,
      budget: this.#budget,
      spool: this.#spool,
      isUnanswered: (promptId) => this.#unanswered.has(promptId),
      onTold: (promptId) => this.#noteTold(promptId),
      guard: (action) => this.#guard(action),
      now: this.#now,
    })
    if (options.statusCount === 'fleet') {
      this.#fleetPace = new StatusPace({ send: () => this.#guard(() => this.#sendStatusToAll()), now: this.#now })
    }
    const sweepMs = Math.min(15_000, Math.max(100, options.replayMs / 10))
    this.#timers = [
      setInterval(() => this.#clients.expire(this.#now() - options.replayMs), sweepMs).unref(),
      setInterval(() => this.#pingAll(), options.pingMs ?? 30_000).unref(),
    ]
    this.#unsubscribe = options.events.subscribe((event) => this.#guard(() => this.#receive(event)))
  }

  get clientCount(): number {
    return this.#clients.size
  }

  attach(socket: ClientSocket, { owner, caller, clientId }: Identity & { clientId: string | undefined }): void {
    if (socket.readyState !== socket.OPEN) return
    const who = { owner, caller }
    const sid = clientId || randomUUID().replaceAll('-', '')
    const writer: SocketWriter = new SocketWriter(socket, {
      bufferBytes: this.#options.bufferBytes,
      features: this.#options.features,
      onProgress: () => this.#guard(() => this.#clients.find(who, sid)?.audience.progressed()),
      onClose: () => this.#guard(() => this.#detach(writer, who, sid)),
    })
    if (this.#isClosed || this.#isCrowded(caller)) {
      if (this.#isClosed) writer.close(1001, STOPPING)
      else writer.close(1008, 'too many sockets')
      return
    }
    this.#sockets.set(writer, caller)
    this.#socketsOf.set(caller, (this.#socketsOf.get(caller) ?? 0) + 1)
    const client = this.#clients.obtain(who, sid)
    writer.send(statusText(client.count(), sid))
    for (const frame of client.delivery.present()) writer.send(frame)
    client.audience.add(writer)
    this.#guard(() => client.delivery.deliver())
  }

  holdUntilAnswered(promptId: PromptId): void {
    this.#unanswered.hold(promptId)
  }

  answered(promptId: PromptId): void {
    for (const prompt of this.#unanswered.answered(promptId)) {
      this.#guard(() => {
        const client = this.#clientOf(prompt)
        this.#touchStatus(client)
        client?.delivery.deliver()
        this.#tidy(prompt)
      })
    }
  }

  replay(prompt: PromptRef, messages: readonly string[]): void {
    if (!prompt.clientId || this.#isClosed) return
    this.#unanswered.awaits(prompt)
    const client = this.#clients.obtain(prompt, prompt.clientId)
    this.#guard(() => client.delivery.replay(prompt.promptId, messages, this.#now()))
    this.#tidy(prompt)
  }

  broadcast(owner: string, type: string, text: string): void {
    const message = fromText(type, text)
    if (message?.kind !== 'other' || this.#isClosed || !this.#mayBroadcast()) return
    this.#guard(() => {
      for (const client of this.#clients.all()) {
        if (client.owner === owner) client.audience.send(message.content, { isPreview: true })
      }
    })
  }

  async close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true
      this.#unsubscribe()
      for (const timer of this.#timers) clearInterval(timer)
      this.#fleetPace?.settle()
      for (const writer of this.#sockets.keys()) writer.close(1001, STOPPING)
    }
    await this.#allSocketsGone()
    this.#tellTold()
    this.#spool.close()
  }

  /** The wait ends with the last socket, at the latest after the deadline: a reader that does not read is cut. */
  async #allSocketsGone(): Promise<void> {
    if (this.#sockets.size === 0) return
    const deadline = setTimeout(() => {
      for (const writer of this.#sockets.keys()) writer.terminate()
    }, CLOSE_DEADLINE_MS)
    const before = this.#onLastSocket
    await new Promise<void>((resolve) => {
      this.#onLastSocket = () => {
        before?.()
        resolve()
      }
    })
    clearTimeout(deadline)
  }

  #receive(event: PromptEvent): void {
    const { prompt } = event
    const { promptId, clientId } = prompt
    const isGated = this.#unanswered.awaits(prompt)
    // ComfyUI sends nothing for a prompt without a client; one with an empty id is addressed to nobody.
    const client = clientId ? this.#clients.find(prompt, clientId) : undefined
    switch (event.kind) {
      case 'admitted': {
        const admitting = clientId ? this.#clients.obtain(prompt, clientId) : undefined
        admitting?.delivery.admitted(promptId)
        if (!isGated) this.#touchStatus(admitting)
        break
      }
      case 'message':
      case 'workerMessage': {
        const message = fromText(event.type, event.text)
        if (message !== undefined) client?.delivery.message(promptId, message)
        break
      }
      case 'frame': {
        const message = client && fromFrame(event.bytes, { isResult: event.isResult })
        if (message !== undefined) client?.delivery.message(promptId, message)
        break
      }
      case 'requeued':
        client?.delivery.requeued(promptId)
        break
      case 'finished':
        client?.delivery.finished(promptId, event.messages, this.#now())
        this.#fleetPace?.touch()
        break
      case 'removed':
        client?.delivery.removed(promptId, this.#now())
        this.#touchStatus(client)
        break
      default:
        event satisfies never
    }
    this.#tidy(prompt)
  }

  #clientOf(prompt: PromptRef): Client | undefined {
    return prompt.clientId ? this.#clients.find(prompt, prompt.clientId) : undefined
  }

  #touchStatus(client: Client | undefined): void {
    if (this.#fleetPace !== undefined) this.#fleetPace.touch()
    else if (client !== undefined && !client.audience.isAbsent) client.pace.touch()
  }

  #sendStatusToAll(): void {
    const text = statusText(this.#options.fleetCount())
    for (const client of this.#clients.all()) client.audience.send(text)
  }

  /** Keeps memory below its bound and forgets the client when nothing is left to do for it. */
  #tidy(prompt: PromptRef): void {
    this.#budget.settle()
    if (this.#budget.usedBytes > this.#budget.limitBytes * EMERGENCY_FACTOR) this.#shortenReplay()
    if (!prompt.clientId) return
    if (this.#options.replayMs === 0) this.#clientOf(prompt)?.delivery.expire(this.#now())
    this.#clients.release(prompt, prompt.clientId)
  }

  #shortenReplay(): void {
    const limitBytes = this.#budget.limitBytes * EMERGENCY_FACTOR
    this.#options.log.warn({ heldBytes: this.#budget.usedBytes }, 'too much is held: absent clients lose their replay')
    for (let ageMs = this.#options.replayMs / 2; this.#budget.usedBytes > limitBytes && ageMs >= 1; ageMs /= 2) {
      this.#clients.expire(this.#now() - ageMs)
    }
  }

  #mayBroadcast(): boolean {
    const now = this.#now()
    if (now - this.#broadcasts.since >= 1_000) Object.assign(this.#broadcasts, { since: now, count: 0 })
    return ++this.#broadcasts.count <= MAX_BROADCASTS
  }

  #isCrowded(caller: string): boolean {
    const { maxSockets = 10_000, maxSocketsPerCaller = 1_000 } = this.#options
    return this.#sockets.size >= maxSockets || (this.#socketsOf.get(caller) ?? 0) >= maxSocketsPerCaller
  }

  #detach(writer: SocketWriter, who: Identity, sid: string): void {
    const caller = this.#sockets.get(writer)
    if (caller === undefined) return
    this.#sockets.delete(writer)
    const left = (this.#socketsOf.get(caller) ?? 1) - 1
    if (left === 0) this.#socketsOf.delete(caller)
    else this.#socketsOf.set(caller, left)
    const client = this.#clients.find(who, sid)
    client?.audience.delete(writer)
    if (this.#options.replayMs === 0) client?.delivery.expire(this.#now())
    this.#clients.release(who, sid)
    if (this.#sockets.size === 0) this.#onLastSocket?.()
  }

  #pingAll(): void {
    for (const writer of this.#sockets.keys()) this.#guard(() => writer.ping())
  }

  /** Those of one turn of the event loop go together: each call is a write to the store. */
  #noteTold(promptId: PromptId): void {
    if (this.#told.push(promptId) === 1) setImmediate(() => this.#tellTold())
  }

  #tellTold(): void {
    const told = this.#told
    this.#told = []
    if (told.length > 0) this.#guard(() => this.#options.onTold(told))
  }

  /** Events and sockets call in from places that cannot handle an error; one client's must not reach the others. */
  #guard(action: () => void): void {
    try {
      action()
    } catch (err) {
      this.#options.log.error({ err }, 'relaying a message failed')
    }
  }
}
