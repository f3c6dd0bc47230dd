import type { PromptId } from '../store/store.ts'
import type { Audience } from './audience.ts'
import type { HeldMessage, HeldMessages } from './held-messages.ts'
import { fromFinal, type RelayMessage } from './message.ts'
import { executingNullText } from './own-messages.ts'

/** `ordered`: one prompt at a time, in the order of their starts. `live`: each as it comes. */
export type DeliveryMode = 'ordered' | 'live'

export interface OrderedDeliveryOptions {
  mode: DeliveryMode
  audience: Audience
  /** A place for messages that cannot be handed on yet. */
  hold: () => HeldMessages
  /** True while the answer to its POST has not left: then nothing may be told about it. */
  isUnanswered: (promptId: PromptId) => boolean
  /** The `status` that stands between the terminal message and the last one. */
  sendStatus: () => void
  /** A prompt begins, for this client. */
  onStart: () => void
  /** The whole terminal sequence was handed to at least one socket. */
  onTold: (promptId: PromptId) => void
}

/** One use of a prompt id, from its admission until its end was told or is not waited for any more. */
interface Track {
  readonly promptId: PromptId
  held: HeldMessages | undefined
  /** Something of it was handed to a socket, so its last message has to come, and nothing of others before it. */
  isOpen: boolean
  /** Set when it has ended; on the clock of the caller. */
  endedAt: number | undefined
  hasTerminal: boolean
  /** As they were handed out last: what a socket that joins needs to know. */
  executing: string | undefined
  progressState: string | undefined
}

/**
 * The prompts of one client and what is still to be told about them. Several run at the same time, but clients break
 * when their messages mix: one prompt is open, the others are held until its `executing` null has been sent.
 */
export class OrderedDelivery {
  readonly #options: OrderedDeliveryOptions
  readonly #tracks = new Set<Track>()
  /** The newest use of each id. */
  readonly #newest = new Map<PromptId, Track>()
  /** Those with something to tell, by their start. */
  readonly #line = new Set<Track>()
  #open: Track | undefined
  #isDelivering = false

  constructor(options: OrderedDeliveryOptions) {
    this.#options = options
  }

  /** Prompts that were admitted and whose end was not told. */
  get count(): number {
    return this.#tracks.size
  }

  admitted(promptId: PromptId): void {
    if (this.#running(promptId) === undefined) this.#track(promptId)
  }

  /** Ignored for a prompt that is not known or has ended. */
  message(promptId: PromptId, message: RelayMessage): void {
    const track = this.#running(promptId)
    if (track === undefined) return
    this.#hold(track, message)
    this.deliver()
  }

  /** What its dead attempt had left to say is void; it stays open if it was. */
  requeued(promptId: PromptId): void {
    const track = this.#running(promptId)
    if (track === undefined) return
    track.held?.clear()
    track.executing = undefined
    track.progressState = undefined
    if (!track.isOpen) this.#line.delete(track)
  }

  /** `now` starts the time for which an absent client is waited for. */
  finished(promptId: PromptId, messages: readonly string[], now: number): void {
    const track = this.#running(promptId)
    if (track !== undefined) this.#end(track, messages, now)
  }

  /** It went without trace. A client that saw it start still gets its last message. */
  removed(promptId: PromptId, now: number): void {
    const track = this.#running(promptId)
    if (track === undefined) return
    track.held?.clear()
    if (track.isOpen) this.#end(track, [], now)
    else this.#forget(track)
  }

  /** A prompt that ended before is told like one that ends now. Ignored while the id runs or its end still waits. */
  replay(promptId: PromptId, messages: readonly string[], now: number): void {
    if (!this.#newest.has(promptId)) this.#end(this.#track(promptId), messages, now)
  }

  /** The frames that bring a further socket to the present, without the past. */
  present(): string[] {
    const frames: string[] = []
    for (const track of this.#line) {
      if (!track.isOpen) continue
      if (track.executing !== undefined) frames.push(track.executing)
      if (track.progressState !== undefined) frames.push(track.progressState)
    }
    return frames
  }

  /** Forgets prompts that ended at or before `limit`, as long as nobody is there to be told. */
  expire(limit: number): void {
    if (!this.#options.audience.isAbsent) return
    for (const track of this.#tracks) if (track.endedAt !== undefined && track.endedAt <= limit) this.#forget(track)
  }

  /** Hands on whatever may go now. */
  deliver(): void {
    if (this.#isDelivering) return
    this.#isDelivering = true
    try {
      if (this.#options.mode === 'live') for (const track of this.#line) this.#advance(track)
      else {
        let track = this.#next()
        while (track !== undefined && this.#advance(track)) track = this.#next()
      }
    } finally {
      this.#isDelivering = false
    }
  }

  #next(): Track | undefined {
    if (this.#open !== undefined) return this.#open
    for (const track of this.#line) if (!this.#options.isUnanswered(track.promptId)) return track
    return undefined
  }

  /** True when the prompt's last message was sent. */
  #advance(track: Track): boolean {
    const { audience, isUnanswered } = this.#options
    if (isUnanswered(track.promptId)) return false
    for (;;) {
      const message = track.held?.first()
      const isLast = track.endedAt !== undefined && (track.held?.size ?? 0) <= 1
      // Asked only when there is something to say: to wait for room is to give the sockets a deadline.
      if ((message === undefined && !isLast) || !audience.hasRoom()) return false
      if (isLast) {
        this.#close(track, message)
        return true
      }
      if (message !== undefined) this.#handOut(track, message)
    }
  }

  #handOut(track: Track, message: HeldMessage): void {
    const content = track.held?.read(message)
    track.held?.remove(message)
    if (content === undefined) return
    track.isOpen = true
    if (this.#options.mode === 'ordered') this.#open = track
    if (message.kind === 'start') this.#options.onStart()
    if (typeof content === 'string') {
      if (message.kind === 'executing') track.executing = content
      if (message.kind === 'progress_state') track.progressState = content
    }
    this.#options.audience.send(content, { isPreview: message.kind === 'preview' })
  }

  /** The terminal message, the count without this prompt, and the last message, in one go. */
  #close(track: Track, terminal: HeldMessage | undefined): void {
    const { audience, sendStatus, onTold } = this.#options
    const content = terminal && track.held?.read(terminal)
    this.#forget(track)
    if (content !== undefined) audience.send(content)
    sendStatus()
    const isTold = audience.send(executingNullText(track.promptId))
    if (isTold && track.hasTerminal) onTold(track.promptId)
  }

  #running(promptId: PromptId): Track | undefined {
    const track = this.#newest.get(promptId)
    return track?.endedAt === undefined ? track : undefined
  }

  #track(promptId: PromptId): Track {
    const track: Track = {
      promptId,
      held: undefined,
      isOpen: false,
      endedAt: undefined,
      hasTerminal: false,
      executing: undefined,
      progressState: undefined,
    }
    this.#tracks.add(track)
    this.#newest.set(promptId, track)
    return track
  }

  #hold(track: Track, message: RelayMessage): void {
    track.held ??= this.#options.hold()
    track.held.add(message)
    this.#line.add(track)
  }

  #end(track: Track, messages: readonly string[], now: number): void {
    for (const message of fromFinal(messages)) {
      this.#hold(track, message)
      track.hasTerminal = true
    }
    track.endedAt = now
    this.#line.add(track)
    this.deliver()
  }

  #forget(track: Track): void {
    track.held?.clear()
    this.#tracks.delete(track)
    this.#line.delete(track)
    if (this.#newest.get(track.promptId) === track) this.#newest.delete(track.promptId)
    if (this.#open === track) this.#open = undefined
  }
}
