import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer } from 'ws'
import { encodeFrame, type FrameImageType } from '../comfyui/frames.ts'
import { dumpPyJson, isPyObject, type PyDumpable, type PyObject, parsePyJson } from './py-json.ts'

/** ComfyUI takes no larger frame from a client. */
const MAX_CLIENT_FRAME_BYTES = 4 * 1024 * 1024

/** A reader this far behind is cut off, so a test that forgets to read does not fill the memory. */
const MAX_BUFFERED_BYTES = 64 * 1024 * 1024

/** Where a message goes: a client id, or everybody. */
export type Recipient = string | undefined

/** Metadata of a picture, in the words of the wire. */
export interface PictureOrigin {
  promptId: string
  nodeId: string
}

export interface SocketHubOptions {
  /** What the worker tells of itself in the feature flags. */
  features: () => PyDumpable
  /** Messages for a socket that has just connected, after its `status`. */
  greet: (sid: string) => { type: string; data: PyDumpable }[]
  queueRemaining: () => number
}

/** The worker's websocket clients, with ComfyUI's table of client id -> newest socket. */
export class SocketHub {
  readonly #options: SocketHubOptions
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_CLIENT_FRAME_BYTES,
    perMessageDeflate: false,
  })
  readonly #open = new Set<WebSocket>()
  readonly #table = new Map<string, WebSocket>()
  readonly #flags = new Map<string, PyObject>()
  #isFrozen = false
  /** While true, nothing is sent and what was to be sent is lost. */
  isMuted = false

  constructor(options: SocketHubOptions) {
    this.#options = options
  }

  /** Sockets that are open, known under an id or not. */
  get size(): number {
    return this.#open.size
  }

  accept(request: IncomingMessage, socket: Duplex, head: Buffer, clientId: string): void {
    this.#server.handleUpgrade(request, socket, head, (ws) =>
      this.#opened(ws, clientId || randomUUID().replaceAll('-', '')),
    )
  }

  hasRecipient(to: Recipient): boolean {
    return to === undefined ? this.#table.size > 0 : this.#table.has(to)
  }

  send(type: string, data: PyDumpable, to: Recipient): void {
    if (this.isMuted || !this.hasRecipient(to)) return
    this.#deliver(dumpPyJson({ type, data }), to)
  }

  /** Sends text that is a message already. */
  sendText(text: string, to: Recipient): void {
    if (!this.isMuted) this.#deliver(text, to)
  }

  /** True when a picture for this client goes as type 4. */
  takesMetadata(to: Recipient): boolean {
    return to !== undefined && this.#flags.get(to)?.get('supports_preview_metadata') === true
  }

  sendPicture(type: FrameImageType, bytes: Buffer, { promptId, nodeId }: PictureOrigin, to: Recipient): void {
    if (this.isMuted || !this.hasRecipient(to)) return
    const frame = this.takesMetadata(to)
      ? encodeFrame({
          kind: 'image-with-metadata',
          metadata: {
            node_id: nodeId,
            prompt_id: promptId,
            display_node_id: nodeId,
            parent_node_id: null,
            real_node_id: nodeId,
            image_type: type,
          },
          image: bytes,
        })
      : encodeFrame({ kind: 'image', imageType: type, image: bytes })
    this.#deliver(frame, to)
  }

  sendStatus(): void {
    this.send('status', this.#status(), undefined)
  }

  /** Stops reading and answering, as a stopped process does. */
  freeze(): void {
    this.#isFrozen = true
    for (const ws of this.#open) ws.pause()
  }

  thaw(): void {
    this.#isFrozen = false
    for (const ws of this.#open) ws.resume()
  }

  /** Cuts every socket without a closing handshake. */
  terminateAll(): void {
    for (const ws of this.#open) {
      // A paused socket does not notice that it ended.
      ws.resume()
      ws.terminate()
    }
  }

  #status(): PyDumpable {
    return { status: { exec_info: { queue_remaining: this.#options.queueRemaining() } } }
  }

  #opened(ws: WebSocket, sid: string): void {
    this.#open.add(ws)
    this.#table.set(sid, ws)
    this.#flags.set(sid, new Map())
    ws.on('error', () => ws.terminate())
    ws.on('close', () => {
      this.#open.delete(ws)
      // Also when the entry is a newer socket's: ComfyUI has this fault (issue 16010), and clients must live with it.
      this.#table.delete(sid)
      this.#flags.delete(sid)
    })
    let isFirst = true
    ws.on('message', (data, isBinary) => {
      if (isBinary || !isFirst) return
      const message = readMessage(String(data))
      if (message === undefined) return
      isFirst = false
      if (!isPyObject(message) || message.get('type') !== 'feature_flags') return
      const flags = message.get('data')
      this.#flags.set(sid, isPyObject(flags) ? flags : new Map())
      this.send('feature_flags', this.#options.features(), sid)
    })
    if (this.#isFrozen) ws.pause()
    this.send('status', { status: { exec_info: { queue_remaining: this.#options.queueRemaining() } }, sid }, sid)
    for (const { type, data } of this.#options.greet(sid)) this.send(type, data, sid)
  }

  #deliver(data: string | Buffer, to: Recipient): void {
    const newest = to === undefined ? undefined : this.#table.get(to)
    const targets = to === undefined ? this.#table.values() : newest ? [newest] : []
    for (const ws of targets) {
      if (ws.readyState !== WebSocket.OPEN) continue
      if (ws.bufferedAmount > MAX_BUFFERED_BYTES) ws.terminate()
      else ws.send(data)
    }
  }
}

function readMessage(text: string): ReturnType<typeof parsePyJson> | undefined {
  try {
    return parsePyJson(text)
  } catch {
    return undefined
  }
}
