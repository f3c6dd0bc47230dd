import { legacyForm } from './message.ts'
import type { SocketWriter } from './socket-writer.ts'

/** Slowest reading that is not a stall, in bytes per second: one large message shows no progress before its end. */
const SLOWEST_BYTES_PER_SECOND = 256 * 1024
/** How long sockets wait for one of them that falls behind; it may be one whose other end is gone. */
const GRACE_MS = 1_000

export interface AudienceOptions {
  /** Milliseconds without progress after which a socket that something waits for is closed. */
  stallMs: number
  /** Called when something that had no room may be tried again. */
  onRoom: () => void
}

/** The sockets of one client. All get everything; the slower one sets the pace, unless it has fallen behind for good. */
export class Audience {
  readonly #options: AudienceOptions
  readonly #writers = new Set<SocketWriter>()
  #timer: NodeJS.Timeout | undefined
  #behindSince: number | undefined

  constructor(options: AudienceOptions) {
    this.#options = options
  }

  get writers(): ReadonlySet<SocketWriter> {
    return this.#writers
  }

  /** True when nobody can be told anything now; closing sockets may still be there. */
  get isAbsent(): boolean {
    for (const writer of this.#writers) if (writer.isOpen) return false
    return true
  }

  add(writer: SocketWriter): void {
    this.#writers.add(writer)
  }

  delete(writer: SocketWriter): void {
    this.#writers.delete(writer)
    if (this.isAbsent) this.#stopWaiting()
  }

  /**
   * True when the sockets have read enough of what they were sent, or some have and have waited for the others. When it
   * answers false with somebody present, `onRoom` follows: on progress, when the wait is over, or when sockets without
   * progress were closed.
   */
  hasRoom(): boolean {
    const open = [...this.#writers].filter((writer) => writer.isOpen)
    const ready = open.filter((writer) => writer.hasRoom).length
    if (ready === open.length) this.#behindSince = undefined
    else if (ready === 0) {
      this.#timer ??= this.#watchForStall(open)
      return false
    } else {
      const now = performance.now()
      this.#behindSince ??= now
      const left = this.#behindSince + GRACE_MS - now
      if (left > 0) {
        this.#timer ??= this.#callLater(left)
        return false
      }
    }
    this.#stopWaiting()
    return ready > 0
  }

  /** Something of one of the sockets reached the kernel. */
  progressed(): void {
    if (this.#timer === undefined) return
    this.#stopWaiting()
    this.#options.onRoom()
  }

  /** Hands a message to every open socket; previews only to those with room. Answers whether one took it. */
  send(content: string | Uint8Array, options: { isPreview?: boolean } = {}): boolean {
    let legacy: { form: Uint8Array | undefined } | undefined
    let isTaken = false
    for (const writer of this.#writers) {
      if (options.isPreview && !writer.hasRoom) continue
      let form: string | Uint8Array | undefined = content
      if (typeof content !== 'string' && !writer.supportsPreviewMetadata) {
        legacy ??= { form: legacyForm(content) }
        form = legacy.form
      }
      if (form !== undefined && writer.send(form)) isTaken = true
    }
    return isTaken
  }

  #watchForStall(open: readonly SocketWriter[]): NodeJS.Timeout {
    const behind = Math.max(...open.map((writer) => writer.bufferedBytes))
    return setTimeout(
      () => {
        this.#timer = undefined
        for (const writer of open) if (writer.isOpen && !writer.hasRoom) writer.closeTooSlow()
        this.#options.onRoom()
      },
      this.#options.stallMs + (behind / SLOWEST_BYTES_PER_SECOND) * 1000,
    )
  }

  #callLater(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#timer = undefined
      this.#options.onRoom()
    }, ms)
  }

  #stopWaiting(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
