import type { IncomingHttpHeaders } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { WorkerCallError } from '../../comfyui/client.ts'
import type { Endpoint } from '../../comfyui/endpoint.ts'
import { requestUpgrade } from '../../comfyui/upgrade.ts'
import { HttpError } from '../../errors.ts'
import { headersFromWorker, headersToWorker } from './forward.ts'

/** The client's own words of the handshake: both ends compute with them. */
const HANDSHAKE = ['sec-websocket-key', 'sec-websocket-version', 'sec-websocket-protocol', 'sec-websocket-extensions']
const ANSWER = ['sec-websocket-accept', 'sec-websocket-protocol', 'sec-websocket-extensions']
const KEEP_ALIVE_MS = 30_000
const MAX_TUNNELS = 2_000
const MAX_TUNNELS_PER_CALLER = 100

/** Websockets of custom nodes: bytes from a client to a worker and back, at the pace of the slower side. */
export class Tunnels {
  readonly #open = new Map<Duplex, string>()
  readonly #timeoutMs: number

  /** `timeoutMs`: for a worker's answer to the handshake. */
  constructor({ timeoutMs }: { timeoutMs: number }) {
    this.#timeoutMs = timeoutMs
  }

  get size(): number {
    return this.#open.size
  }

  /**
   * Connects a client that asked for a websocket; takes the connection over when the worker agrees. Answers false, with
   * nothing sent, when it does not. Throws HttpError for a bad handshake or too many, WorkerCallError.
   */
  async connect(
    request: FastifyRequest,
    reply: FastifyReply,
    to: { endpoint: Endpoint; path: string },
  ): Promise<{ isOpen: boolean; status: number }> {
    const { headers } = request
    if (headers.upgrade?.toLowerCase() !== 'websocket' || headers['sec-websocket-key'] === undefined) {
      throw new HttpError(400, 'bad_upgrade', 'Only a websocket can be opened here')
    }
    this.#assertRoom(request.identity.caller)
    const gone = new AbortController()
    const client = request.raw.socket
    const leave = (): void => gone.abort()
    client.once('close', leave)
    try {
      const answer = await requestUpgrade(to.endpoint, {
        path: to.path,
        headers: handshake(headers),
        timeoutMs: this.#timeoutMs,
        signal: gone.signal,
      })
      if (answer.kind === 'refused') return { isOpen: false, status: answer.status }
      if (client.destroyed) {
        answer.stream.on('error', () => undefined).destroy()
        throw new WorkerCallError('aborted', 'the client has gone')
      }
      reply.hijack()
      reply.raw.detachSocket(client)
      this.#join(client, answer.stream, request.identity.caller)
      client.write(answerHead(answer.headers))
      if (answer.head.length > 0) client.write(answer.head)
      return { isOpen: true, status: 101 }
    } catch (error) {
      if (gone.signal.aborted) throw new WorkerCallError('aborted', 'the client has gone', { cause: error })
      throw error
    } finally {
      client.off('close', leave)
    }
  }

  /** Cuts all. */
  close(): void {
    for (const client of this.#open.keys()) client.destroy()
  }

  #assertRoom(caller: string): void {
    let own = 0
    for (const other of this.#open.values()) if (other === caller) own++
    if (this.#open.size >= MAX_TUNNELS || own >= MAX_TUNNELS_PER_CALLER) {
      throw new HttpError(503, 'too_many_sockets', 'Too many websockets are open', { retryAfterS: 5 })
    }
  }

  #join(client: FastifyRequest['raw']['socket'], worker: Duplex, caller: string): void {
    this.#open.set(client, caller)
    client.setTimeout(0)
    client.setNoDelay(true)
    client.setKeepAlive(true, KEEP_ALIVE_MS)
    for (const [side, other] of [
      [client, worker],
      [worker, client],
    ] as const) {
      side.on('error', () => side.destroy())
      side.on('close', () => {
        other.destroy()
        this.#open.delete(client)
      })
      side.pipe(other)
    }
  }
}

function handshake(headers: IncomingHttpHeaders): Record<string, string> {
  const passed = headersToWorker(headers)
  for (const name of HANDSHAKE) {
    const value = headers[name]
    if (typeof value === 'string') passed[name] = value
  }
  return passed
}

function answerHead(headers: IncomingHttpHeaders): Buffer {
  const lines = ['HTTP/1.1 101 Switching Protocols', 'connection: Upgrade', 'upgrade: websocket']
  const passed = headersFromWorker(Object.fromEntries(ANSWER.map((name) => [name, headers[name]])))
  for (const [name, value] of Object.entries(passed)) lines.push(`${name}: ${String(value)}`)
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
}
