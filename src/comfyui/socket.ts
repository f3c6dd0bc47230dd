import WebSocket, { type RawData } from 'ws'
import { lookupDialable } from './dialable.ts'
import { type Endpoint, socketUrl } from './endpoint.ts'

export interface ComfySocketEvents {
  /** The worker's first message came: from now on it delivers to us. */
  onOpen(): void
  onText(text: string): void
  onBinary(bytes: Buffer): void
  /** Any byte from the worker, pongs too. */
  onSign(): void
  /** Once, after the connection is gone or could not be made. */
  onClose(reason: string): void
}

/** The socket to one ComfyUI. It does not reconnect by itself. */
export interface ComfySocket {
  /** Closes and resolves when the connection is really gone, after 2 s at most. */
  close(): Promise<void>
}

export interface ComfySocketOptions {
  endpoint: Endpoint
  clientId: string
  /** Milliseconds until the upgrade must be through. */
  connectTimeoutMs: number
  /** Milliseconds between pings: nginx in front of a worker closes idle sockets after 60 s. */
  pingIntervalMs: number
}

/** Full-size pictures come through this socket (SaveImageWebsocket), so the bound is generous. */
const MAX_FRAME_BYTES = 256 * 1024 * 1024
const CLOSE_TIMEOUT_MS = 2_000
/** ComfyUI greets at once; whoever took the upgrade and says nothing for so long has forgotten it. */
const GREETING_TIMEOUT_MS = 30_000

/** Connects, announces our feature flags in the first frame, and reports what comes. */
export function openComfySocket(options: ComfySocketOptions, events: ComfySocketEvents): ComfySocket {
  const socket = new WebSocket(socketUrl(options.endpoint, options.clientId), {
    headers: options.endpoint.headers,
    handshakeTimeout: options.connectTimeoutMs,
    maxPayload: MAX_FRAME_BYTES,
    perMessageDeflate: false,
    followRedirects: false,
    lookup: lookupDialable,
    ...(options.endpoint.ca === undefined ? {} : { ca: options.endpoint.ca }),
  })
  let opened = false
  let closed = false
  let reason = 'closed by the worker'
  const ping = setInterval(() => {
    if (socket.readyState === WebSocket.OPEN) socket.ping()
  }, options.pingIntervalMs)

  const greeting = setTimeout(() => {
    reason = 'no greeting came'
    socket.terminate()
  }, GREETING_TIMEOUT_MS)

  socket.on('open', () => {
    // Only the first valid JSON frame counts (protocol handling in ComfyUI's server.py).
    socket.send(JSON.stringify({ type: 'feature_flags', data: { supports_preview_metadata: true } }))
  })
  socket.on('message', (data: RawData, isBinary: boolean) => {
    events.onSign()
    if (!opened) {
      opened = true
      clearTimeout(greeting)
      events.onOpen()
    }
    if (isBinary) events.onBinary(asBuffer(data))
    else events.onText(asBuffer(data).toString('utf8'))
  })
  socket.on('ping', () => events.onSign())
  socket.on('pong', () => events.onSign())
  socket.on('error', (error) => {
    reason = error.message || reason
  })
  const gone = new Promise<void>((resolve) => {
    socket.on('close', () => {
      clearInterval(ping)
      clearTimeout(greeting)
      if (!closed) {
        closed = true
        events.onClose(reason)
      }
      resolve()
    })
  })

  return {
    async close() {
      if (socket.readyState === WebSocket.CLOSED) return
      reason = 'closed by us'
      const force = setTimeout(() => socket.terminate(), CLOSE_TIMEOUT_MS)
      socket.close(1000)
      await gone
      clearTimeout(force)
    },
  }
}

function asBuffer(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data)
}
