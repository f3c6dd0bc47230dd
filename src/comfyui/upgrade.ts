import { type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { Duplex } from 'node:stream'
import { WorkerCallError } from './client.ts'
import { lookupDialable } from './dialable.ts'
import type { Endpoint } from './endpoint.ts'

export type UpgradeReply =
  /** From here on the stream carries the other protocol; `head` is what came of it already. */
  | { kind: 'upgraded'; headers: IncomingMessage['headers']; stream: Duplex; head: Buffer }
  /** A plain answer instead; nobody reads its body. */
  | { kind: 'refused'; status: number }

/**
 * Asks a worker to turn a connection of its own into a websocket. The stream is the caller's to end. Throws
 * WorkerCallError when there is no answer within `timeoutMs` or the signal aborts.
 */
export function requestUpgrade(
  endpoint: Endpoint,
  ask: { path: string; headers: Readonly<Record<string, string>>; timeoutMs: number; signal: AbortSignal },
): Promise<UpgradeReply> {
  const { protocol, hostname, port } = new URL(endpoint.origin)
  const isTls = protocol === 'https:'
  return new Promise((resolve, reject) => {
    const request = (isTls ? requestHttps : requestHttp)({
      hostname: hostname.replace(/^\[(.*)\]$/, '$1'),
      port: port || (isTls ? 443 : 80),
      path: endpoint.basePath + ask.path,
      headers: { ...ask.headers, ...endpoint.headers, connection: 'Upgrade', upgrade: 'websocket' },
      lookup: lookupDialable,
      signal: ask.signal,
      agent: false,
      ...(endpoint.ca === undefined ? {} : { ca: endpoint.ca }),
    })
    const timer = setTimeout(
      () => request.destroy(new WorkerCallError('timeout', 'no answer to an upgrade')),
      ask.timeoutMs,
    )
    request.once('close', () => clearTimeout(timer))
    request.once('error', (error) => {
      reject(
        error instanceof WorkerCallError ? error : new WorkerCallError('unreachable', error.message, { cause: error }),
      )
    })
    request.once('upgrade', (response, stream, head) => {
      clearTimeout(timer)
      resolve({ kind: 'upgraded', headers: response.headers, stream, head })
    })
    request.once('response', (response) => {
      response.on('error', () => undefined).destroy()
      resolve({ kind: 'refused', status: response.statusCode ?? 502 })
    })
    request.end()
  })
}
