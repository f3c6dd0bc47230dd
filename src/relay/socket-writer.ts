import type { RawData } from 'ws'
import { featureFlagsText } from './own-messages.ts'

/** What the relay needs of a websocket; `ws` has it. */
export interface ClientSocket {
  readonly readyState: number
  readonly OPEN: number
  readonly bufferedAmount: number
  send(data: string | Uint8Array, options: { binary: boolean }, done: () => void): void
  close(code: number, reason: string): void
  terminate(): void
  ping(): void
  on(event: 'message', listener: (data: RawData, isBinary: boolean) => void): unknown
  on(event: 'pong' | 'close' | 'error', listener: () => void): unknown
}

export interface SocketWriterOptions {
  /** A socket that is further behind is closed; a quarter of it is the room that a message may wait for. */
  bufferBytes: number
  /** What `feature_flags` is answered with. */
  features: () => object
  /** Something reached the kernel. */
  onProgress: () => void
  onClose: () => void
}

/** Rounds of pings that a socket may miss while it still has something to read, and when it has not. */
const MISSES_WHEN_BUSY = 3
const MISSES_WHEN_IDLE = 1

/** One socket of a client: its flags, its backlog, its life. */
export class SocketWriter {
  readonly #socket: ClientSocket
  readonly #options: SocketWriterOptions
  #isHandshakeDue = true
  #supportsPreviewMetadata = false
  #missedPongs = 0
  /** Of the messages sent since there was room the last time. */
  #largestBytes = 0

  constructor(socket: ClientSocket, options: SocketWriterOptions) {
    this.#socket = socket
    this.#options = options
    socket.on('message', (data, isBinary) => this.#read(data, isBinary))
    socket.on('pong', () => {
      this.#missedPongs = 0
    })
    socket.on('close', options.onClose)
    // `close` follows each error; without a listener the error would end the process.
    socket.on('error', () => {})
  }

  get isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN
  }

  /** True when the client takes pictures with metadata (type 4); it gets the old form (type 1) otherwise. */
  get supportsPreviewMetadata(): boolean {
    return this.#supportsPreviewMetadata
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount
  }

  get hasRoom(): boolean {
    return this.isOpen && this.#socket.bufferedAmount <= this.#options.bufferBytes / 4
  }

  /**
   * True when the socket took it. A socket that is more than `bufferBytes` behind is closed with 1013 instead; the
   * largest message on its way is not counted, for a picture may be larger than that and its reader fast.
   */
  send(content: string | Uint8Array): boolean {
    if (!this.isOpen) return false
    if (this.hasRoom) this.#largestBytes = 0
    if (this.#socket.bufferedAmount > this.#options.bufferBytes + this.#largestBytes) {
      this.closeTooSlow()
      return false
    }
    this.#largestBytes = Math.max(this.#largestBytes, content.length)
    this.#socket.send(content, { binary: typeof content !== 'string' }, this.#options.onProgress)
    return true
  }

  closeTooSlow(): void {
    this.#socket.close(1013, 'reader too slow')
  }

  /** Behind everything that was sent. */
  close(code: number, reason: string): void {
    this.#socket.close(code, reason)
  }

  terminate(): void {
    this.#socket.terminate()
  }

  /** Called at regular intervals: ends a socket that left the last ping unanswered. */
  ping(): void {
    if (!this.isOpen) return
    // A pong waits behind what the client has still to read.
    const allowed = this.#socket.bufferedAmount > 0 ? MISSES_WHEN_BUSY : MISSES_WHEN_IDLE
    if (this.#missedPongs >= allowed) {
      this.#socket.terminate()
      return
    }
    this.#missedPongs++
    this.#socket.ping()
  }

  /** ComfyUI reads one message of a client: the first text that is JSON, and it only counts as `feature_flags`. */
  #read(data: RawData, isBinary: boolean): void {
    if (!this.#isHandshakeDue || isBinary) return
    let message: unknown
    try {
      message = JSON.parse(data.toString())
    } catch {
      return
    }
    this.#isHandshakeDue = false
    const { type, data: flags } = asRecord(message)
    if (type !== 'feature_flags') return
    this.#supportsPreviewMetadata = asRecord(flags).supports_preview_metadata === true
    this.send(featureFlagsText(this.#options.features()))
  }
}

const asRecord = (value: unknown): Record<string, unknown> =>
  // Any object may be read by key; a missing one is undefined.
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
