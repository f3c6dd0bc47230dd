import type { Endpoint } from '../comfyui/endpoint.ts'
import { type ComfySocket, openComfySocket } from '../comfyui/socket.ts'

export interface ConnectionEvents {
  opened(): void
  closed(reason: string): void
  text(text: string): void
  binary(bytes: Buffer): void
  sign(): void
}

export interface ConnectionOptions {
  endpoint: Endpoint
  connectTimeoutMs: number
  pingIntervalMs: number
  /** Asked before each connect: the same id while a prompt posted under it is unfinished, a fresh one otherwise. */
  clientId(): Promise<string>
}

const FIRST_RETRY_MS = 300
const LAST_RETRY_MS = 5_000

/**
 * Keeps one socket to a worker open. The old one is closed, and known to be closed, before the next is opened: ComfyUI
 * forgets a newer socket with the same client id when an older one ends (server.py, websocket_handler).
 */
export class WorkerConnection {
  readonly #options: ConnectionOptions
  readonly #events: ConnectionEvents
  #socket: ComfySocket | undefined
  #retry: NodeJS.Timeout | undefined
  #retryMs = FIRST_RETRY_MS
  #closed = false
  #isOpen = false
  #connecting = false

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    this.#options = options
    this.#events = events
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Connects, and again after each close, until `close`. */
  async connect(): Promise<void> {
    if (this.#closed || this.#connecting || this.#socket) return
    this.#connecting = true
    try {
      const clientId = await this.#options.clientId()
      if (this.#closed) return
      this.#socket = openComfySocket(
        {
          endpoint: this.#options.endpoint,
          clientId,
          connectTimeoutMs: this.#options.connectTimeoutMs,
          pingIntervalMs: this.#options.pingIntervalMs,
        },
        {
          onOpen: () => {
            this.#isOpen = true
            this.#retryMs = FIRST_RETRY_MS
            this.#events.opened()
          },
          onText: (text) => this.#events.text(text),
          onBinary: (bytes) => this.#events.binary(bytes),
          onSign: () => this.#events.sign(),
          onClose: (reason) => {
            this.#socket = undefined
            this.#isOpen = false
            this.#events.closed(reason)
            this.#scheduleRetry()
          },
        },
      )
    } catch {
      // Only asking for the client id can fail (the store); the next try asks again.
      this.#scheduleRetry()
    } finally {
      this.#connecting = false
    }
  }

  /** Closes the socket and opens a new one: for a socket that is open but gets nothing. */
  async reopen(): Promise<void> {
    this.#retryMs = FIRST_RETRY_MS
    await this.#socket?.close()
  }

  /** Tries to connect now instead of after the pause; nothing happens while a socket exists. */
  hurry(): void {
    if (this.#retry === undefined) return
    clearTimeout(this.#retry)
    this.#retry = undefined
    void this.connect()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#retry = undefined
    await this.#socket?.close()
  }

  #scheduleRetry(): void {
    if (this.#closed || this.#retry !== undefined) return
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      void this.connect()
    }, this.#retryMs)
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS)
  }
}
