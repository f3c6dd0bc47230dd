import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { type StreamedAnswer, WorkerCallError } from '../../comfyui/client.ts'
import type { Worker } from '../../workers/worker.ts'

/**
 * What crosses the gateway when a request is passed on to a worker, and what does not: headers, the stream of the answer,
 * and the end of either side.
 */

/** About one connection, not about the message (RFC 9110, 7.6.1), and their forerunners. */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]

/** What a client proves to the gateway, where it comes from, and what proxies say of it. None of it is a worker's. */
const CLIENT_ONLY = new Set([
  ...HOP_BY_HOP,
  'accept-encoding', // Asked for as it is: a worker's own compression would have to be undone.
  'authorization',
  'client-ip',
  'comfy-user',
  'content-length', // Follows from the body that is sent.
  'cookie',
  'expect',
  'forwarded',
  'host',
  'origin',
  'referer',
  'true-client-ip',
  'via',
  'x-api-key',
  'x-client-ip',
  'x-original-url',
  'x-real-ip',
  'x-rewrite-url',
])
/** `sec-fetch-dest` passes: workers serve SVG by it. Their own guard would take the other three for an attack. */
const CLIENT_ONLY_FAMILIES = [/^x-forwarded/, /^sec-(?!fetch-dest$)/, /^cf-/, /^proxy-/, /_/]

/** What a worker may not say in the gateway's name. */
const WORKER_ONLY = new Set([
  ...HOP_BY_HOP,
  'alt-svc',
  'clear-site-data',
  'date',
  'public-key-pins',
  'server',
  'service-worker-allowed',
  'set-cookie',
  'set-cookie2',
  'strict-transport-security',
  'via',
  'www-authenticate',
  'x-powered-by',
])
const WORKER_ONLY_FAMILIES = [/^access-control-/, /^cross-origin-/, /^x-accel-/]

/** A client's headers as a worker gets them, with what the worker itself needs added by its client. */
export function headersToWorker(headers: IncomingHttpHeaders): Record<string, string> {
  const named = namedByConnection(headers.connection)
  const passed: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || CLIENT_ONLY.has(name) || named.has(name)) continue
    if (CLIENT_ONLY_FAMILIES.some((family) => family.test(name))) continue
    passed[name] = Array.isArray(value) ? value.join(', ') : value
  }
  passed['accept-encoding'] = 'identity'
  return passed
}

/** A worker's headers as a client gets them. */
export function headersFromWorker(headers: StreamedAnswer['headers']): Record<string, string | string[]> {
  const named = namedByConnection(headers.connection)
  const passed: Record<string, string | string[]> = {}
  for (const [given, value] of Object.entries(headers)) {
    const name = given.toLowerCase()
    if (value === undefined || WORKER_ONLY.has(name) || named.has(name)) continue
    if (WORKER_ONLY_FAMILIES.some((family) => family.test(name))) continue
    const sendable = Array.isArray(value) ? value.map(asHeaderValue) : asHeaderValue(value)
    if (Array.isArray(sendable)) passed[name] = sendable.filter((each) => each !== undefined)
    else if (sendable !== undefined) passed[name] = sendable
  }
  return passed
}

/**
 * Where a worker's redirect leads, for a client: a path on the gateway. Undefined when it leads to another host.
 * `workerUrl`: the worker's, whose path is not the client's business.
 */
export function locationFromWorker(location: string, { workerUrl, path }: { workerUrl: string; path: string }) {
  const base = workerUrl.replace(/\/+$/, '')
  if (!URL.canParse(location, base + path)) return undefined
  const target = new URL(location, base + path)
  const worker = new URL(base)
  const prefix = worker.pathname === '/' ? '' : worker.pathname
  if (target.origin !== worker.origin || !`${target.pathname}/`.startsWith(`${prefix}/`)) return undefined
  // A path that starts with two slashes would be another host.
  return `/${target.pathname.slice(prefix.length).replace(/^\/+/, '')}${target.search}${target.hash}`
}

function namedByConnection(connection: string | string[] | undefined): Set<string> {
  return new Set(
    String(connection ?? '')
      .split(',')
      .map((name) => name.trim().toLowerCase()),
  )
}

/** Node writes headers byte by byte: UTF-8 goes out as the bytes that came. Undefined for what is no header value. */
function asHeaderValue(value: string): string | undefined {
  const bytes = /[^\0-\xff]/.test(value) ? Buffer.from(value, 'utf8').toString('latin1') : value
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be in a header.
  return /[\0-\x08\x0a-\x1f\x7f]/.test(bytes) ? undefined : bytes
}

/** Answers of something in front of a worker, which says that the worker cannot be had. */
const IN_FRONT = new Set([401, 403, 407, 502, 503, 504])
/** The same where the worker itself may mean the others: its credentials are the gateway's business. */
const CREDENTIALS = new Set([401, 407])

/**
 * Asks a worker, for as long as the client is there to hear the answer. Resolves when the answer has begun: with its
 * first bytes, or its end. Throws WorkerCallError (`aborted` when the client has gone).
 */
export async function askWorker(
  worker: Worker,
  ask: {
    method: string
    path: string
    headers: Record<string, string>
    body?: Readable | Buffer | null
    timeoutMs?: number
    /** A custom node's route, which may redirect and refuse in its own way. */
    isCustom?: boolean
  },
  reply: FastifyReply,
): Promise<StreamedAnswer> {
  const { timeoutMs, isCustom = false, ...request } = ask
  const gone = new AbortController()
  const leave = (): void => gone.abort()
  if (reply.raw.destroyed) leave()
  reply.raw.once('close', leave)
  let answer: StreamedAnswer | undefined
  try {
    answer = await worker.client.stream(request, {
      signal: gone.signal,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    })
    const isRedirect = answer.status >= 300 && answer.status < 400 && answer.status !== 304
    if (isCustom ? CREDENTIALS.has(answer.status) : IN_FRONT.has(answer.status) || isRedirect) {
      throw new WorkerCallError('protocol', `${ask.method} answered ${answer.status}`, { status: answer.status })
    }
    await beginning(answer.body)
    answer.body.once('close', () => reply.raw.off('close', leave))
    return answer
  } catch (error) {
    answer?.body.on('error', () => undefined).destroy()
    reply.raw.off('close', leave)
    if (gone.signal.aborted) throw new WorkerCallError('aborted', 'the client has gone', { cause: error })
    if (error instanceof WorkerCallError) throw error
    throw new WorkerCallError('reset', 'the answer broke off', { cause: error })
  }
}

function beginning(body: Readable): Promise<void> {
  return new Promise((resolve, reject) => {
    if (body.readableEnded || body.readableLength > 0) return resolve()
    const settle = (error?: Error): void => {
      body.off('readable', begun).off('end', begun).off('error', settle)
      if (error) reject(error)
      else resolve()
    }
    const begun = (): void => settle()
    body.on('readable', begun).on('end', begun).on('error', settle)
  })
}

/** Rests of answers up to this are read, so that the connection can be used again; bytes. */
const MAX_DISCARDED = 64 * 1024

/** Lets go of an answer that nobody wants. */
export function discard({ headers, body }: StreamedAnswer): void {
  body.on('error', () => undefined)
  if (Number(headers['content-length']) <= MAX_DISCARDED) body.resume()
  else body.destroy()
}

/**
 * Streams a worker's answer to the client at the client's pace. When the worker breaks off, the connection is cut, so
 * that half an answer is never taken for a whole one.
 */
export function sendAnswer(
  reply: FastifyReply,
  answer: StreamedAnswer,
  headers: Record<string, string | string[]>,
): FastifyReply {
  reply.code(answer.status).headers(headers)
  const hasBody = answer.status !== 204 && answer.status !== 304
  // Fastify reads the (empty) stream of an answer to HEAD; without one it would set a length of 0.
  if (hasBody || reply.request.method === 'HEAD') return reply.send(answer.body)
  discard(answer)
  return reply.send()
}
