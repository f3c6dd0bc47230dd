import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import { type Answer, json, type RouteRequest } from './answers.ts'
import type { WorkerState } from './worker-state.ts'

/** What a custom node adds to a ComfyUI: a route that tells what reached it, and a websocket that sends everything back. */

const ECHO_ROUTE = '/demo/echo'
export const ECHO_SOCKET = '/demo/socket'
const MAX_MESSAGE_BYTES = 1024 * 1024

/** Undefined for other paths. */
export function customNodeRoute(state: WorkerState, { method, path, headers, body }: RouteRequest): Answer | undefined {
  if (path !== ECHO_ROUTE) return undefined
  const names = Object.keys(headers).sort()
  return json({
    worker: state.name,
    method,
    headers: Object.fromEntries(names.map((name) => [name, String(headers[name])])),
    body_bytes: body.length,
    body_sha256: createHash('sha256').update(body).digest('hex'),
  })
}

/** The node's websockets. */
export class EchoSockets {
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: (protocols) => [...protocols][0] ?? false,
  })
  readonly #open = new Set<WebSocket>()

  accept(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#server.handleUpgrade(request, socket, head, (ws) => {
      this.#open.add(ws)
      ws.on('close', () => this.#open.delete(ws))
      ws.on('error', () => ws.terminate())
      ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }))
    })
  }

  terminateAll(): void {
    for (const ws of this.#open) ws.terminate()
  }
}
