import type { Readable } from 'node:stream'
import { type Dispatcher, errors, Pool } from 'undici'
import { lookupDialable } from './dialable.ts'
import type { Endpoint } from './endpoint.ts'
import { parseRemoteQueue, type RemoteQueue } from './protocol.ts'

/** What went wrong with a call to one ComfyUI. */
export type CallFault =
  /** No connection was made; the request never left. */
  | 'unreachable'
  /** The connection broke before the answer was whole; the request may have arrived. */
  | 'reset'
  /** No whole answer in time; the request may have arrived. */
  | 'timeout'
  /** Basic auth or another gate in front of the worker said no. */
  | 'unauthorized'
  /** An answer that is not ComfyUI's: another status, HTML, broken JSON, too large. */
  | 'protocol'
  /** The caller aborted. */
  | 'aborted'

export class WorkerCallError extends Error {
  readonly fault: CallFault
  /** Status of the answer, when there was one. */
  readonly status: number | undefined

  constructor(fault: CallFault, message: string, options: { status?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'WorkerCallError'
    this.fault = fault
    this.status = options.status
  }

  /** False only when it is certain that nothing reached the worker. */
  get mayHaveArrived(): boolean {
    return this.fault !== 'unreachable'
  }
}

export type SubmitReply =
  /** `nodeErrors`: raw JSON text of the answer's `node_errors`. */
  | { kind: 'accepted'; upstreamId: string; text: string }
  /** ComfyUI's own 400 with an error body. */
  | { kind: 'refused'; text: string }

export interface CallOptions {
  signal?: AbortSignal
  /** Milliseconds for the whole call; default `requestTimeoutMs`. */
  timeoutMs?: number
  /** Largest answer read into memory, bytes; default that of the client. */
  maxAnswerBytes?: number
}

export interface StreamedAnswer {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: Readable
}

/** One ComfyUI over HTTP: a connection pool of its own, a deadline on every call, every answer checked. */
export interface ComfyClient {
  /** Resolves when `GET /prompt` answers as ComfyUI does. */
  probe(options?: CallOptions): Promise<void>
  submit(body: string, options?: CallOptions): Promise<SubmitReply>
  queue(options?: CallOptions): Promise<RemoteQueue>
  /** Text of the whole answer of `GET /history/{id}`; undefined when the id is not in history. */
  history(upstreamId: string, options?: CallOptions): Promise<string | undefined>
  /** Interrupts this prompt if it runs; nothing happens otherwise. */
  interrupt(upstreamId: string, options?: CallOptions): Promise<void>
  /** Drops pending prompts; running and unknown ids are ignored. */
  deletePending(upstreamIds: readonly string[], options?: CallOptions): Promise<void>
  free(body: string, options?: CallOptions): Promise<void>
  /** A GET whose answer must be 200 with JSON; answers the text. Undefined on 404. */
  getJsonText(path: string, options?: CallOptions): Promise<string | undefined>
  /** Any call, answered as a stream; the caller reads or destroys the body. Only the wait for headers has a deadline. */
  stream(
    request: { method: string; path: string; headers?: Record<string, string>; body?: Readable | Buffer | null },
    options?: CallOptions,
  ): Promise<StreamedAnswer>
  /** Ends all connections; calls under way fail. */
  close(): Promise<void>
}

export interface ComfyClientOptions {
  endpoint: Endpoint
  connectTimeoutMs: number
  requestTimeoutMs: number
  /** Largest answer read into memory, bytes. */
  maxAnswerBytes?: number
}

const DEFAULT_MAX_ANSWER_BYTES = 64 * 1024 * 1024
const MAX_CONNECTIONS = 32

export function createComfyClient(options: ComfyClientOptions): ComfyClient {
  const { endpoint, requestTimeoutMs } = options
  // A pool is bound to one origin and follows no redirects, so the worker's secrets cannot reach another host.
  const pool = new Pool(endpoint.origin, {
    connections: MAX_CONNECTIONS,
    pipelining: 1,
    connect: {
      timeout: options.connectTimeoutMs,
      lookup: lookupDialable,
      ...(endpoint.ca === undefined ? {} : { ca: endpoint.ca }),
    },
  })

  async function stream(
    request: { method: string; path: string; headers?: Record<string, string>; body?: Readable | Buffer | null },
    call: CallOptions = {},
  ): Promise<StreamedAnswer> {
    const timeoutMs = call.timeoutMs ?? requestTimeoutMs
    try {
      const answer = await pool.request({
        method: request.method as Dispatcher.HttpMethod, // undici types the common methods, and sends any.
        path: endpoint.basePath + request.path,
        // What the operator set wins over what a client may have sent along.
        headers: { ...request.headers, ...endpoint.headers },
        body: request.body ?? null,
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        ...(call.signal ? { signal: call.signal } : {}),
      })
      return { status: answer.statusCode, headers: answer.headers, body: answer.body }
    } catch (error) {
      throw asCallError(error)
    }
  }

  async function readText(answer: StreamedAnswer, maxAnswerBytes: number): Promise<string> {
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > maxAnswerBytes) throw new WorkerCallError('protocol', `answer is larger than ${maxAnswerBytes} bytes`)
      chunks.push(chunk)
    }
    return Buffer.concat(chunks, size).toString('utf8')
  }

  /** One call with a deadline over connect, headers and body. */
  async function call(
    method: string,
    path: string,
    body: string | undefined,
    callOptions: CallOptions = {},
  ): Promise<{ status: number; headers: StreamedAnswer['headers']; text: string }> {
    const maxAnswerBytes = callOptions.maxAnswerBytes ?? options.maxAnswerBytes ?? DEFAULT_MAX_ANSWER_BYTES
    const deadline = AbortSignal.timeout(callOptions.timeoutMs ?? requestTimeoutMs)
    const signal = callOptions.signal ? AbortSignal.any([callOptions.signal, deadline]) : deadline
    let answer: StreamedAnswer | undefined
    try {
      answer = await stream(
        {
          method,
          path,
          ...(body === undefined
            ? {}
            : { headers: { 'content-type': 'application/json' }, body: Buffer.from(body, 'utf8') }),
        },
        { ...callOptions, signal },
      )
      return { status: answer.status, headers: answer.headers, text: await readText(answer, maxAnswerBytes) }
    } catch (error) {
      answer?.body.destroy()
      if (deadline.aborted && !callOptions.signal?.aborted) {
        throw new WorkerCallError('timeout', `${method} ${path} took too long`, { cause: error })
      }
      throw asCallError(error)
    }
  }

  async function expectEmpty(method: string, path: string, body: string, callOptions?: CallOptions): Promise<void> {
    const answer = await call(method, path, body, callOptions)
    if (answer.status !== 200) throw unexpected(method, path, answer.status)
  }

  async function getJsonText(path: string, callOptions?: CallOptions): Promise<string | undefined> {
    const answer = await call('GET', path, undefined, callOptions)
    if (answer.status === 404) return undefined
    if (answer.status !== 200) throw unexpected('GET', path, answer.status)
    return answer.text
  }

  async function getObject(path: string, callOptions?: CallOptions): Promise<{ text: string; value: object }> {
    const text = await getJsonText(path, callOptions)
    const value = text === undefined ? undefined : parseObject(text)
    if (text === undefined || value === undefined) {
      throw new WorkerCallError('protocol', `GET ${path} did not answer a JSON object`)
    }
    return { text, value }
  }

  return {
    stream,
    getJsonText,

    async probe(callOptions) {
      const { value } = await getObject('/prompt', callOptions)
      if (!('exec_info' in value)) throw new WorkerCallError('protocol', 'GET /prompt did not answer as ComfyUI does')
    },

    async submit(body, callOptions) {
      const answer = await call('POST', '/prompt', body, callOptions)
      const value = parseObject(answer.text)
      if (answer.status === 200 && value && 'prompt_id' in value && typeof value.prompt_id === 'string') {
        return { kind: 'accepted', upstreamId: value.prompt_id, text: answer.text }
      }
      if (answer.status === 400 && value && 'error' in value && 'node_errors' in value) {
        return { kind: 'refused', text: answer.text }
      }
      throw unexpected('POST', '/prompt', answer.status)
    },

    async queue(callOptions) {
      const queue = parseRemoteQueue((await getObject('/queue', callOptions)).value)
      if (!queue) throw new WorkerCallError('protocol', 'GET /queue did not answer a queue')
      return queue
    },

    async history(upstreamId, callOptions) {
      const { text, value } = await getObject(`/history/${encodeURIComponent(upstreamId)}`, callOptions)
      return Object.hasOwn(value, upstreamId) ? text : undefined
    },

    interrupt: (upstreamId, callOptions) =>
      expectEmpty('POST', '/interrupt', JSON.stringify({ prompt_id: upstreamId }), callOptions),

    deletePending: (upstreamIds, callOptions) =>
      expectEmpty('POST', '/queue', JSON.stringify({ delete: upstreamIds }), callOptions),

    free: (body, callOptions) => expectEmpty('POST', '/free', body, callOptions),

    close: () => pool.destroy(),
  }
}

/** Python prints NaN and Infinity into JSON, so these are read as null here; only ids are looked at. */
function parseObject(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return parseWithNonFinite(text)
  }
}

function parseWithNonFinite(text: string): object | undefined {
  if (!/NaN|Infinity/.test(text)) return undefined
  try {
    const bare = text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (match) =>
      match[0] === '"' ? match : 'null',
    )
    const value: unknown = JSON.parse(bare)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

function unexpected(method: string, path: string, status: number): WorkerCallError {
  const gate = status === 401 || status === 403 || status === 407
  return new WorkerCallError(gate ? 'unauthorized' : 'protocol', `${method} ${path} answered ${status}`, { status })
}

/** Codes of failures that happen before a connection exists. */
const UNSENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ERR_FORBIDDEN_ADDRESS',
  'UND_ERR_CONNECT_TIMEOUT',
])

function asCallError(error: unknown): WorkerCallError {
  if (error instanceof WorkerCallError) return error
  const code = codeOf(error)
  const message = error instanceof Error && error.message ? error.message : String(error)
  if (code !== undefined && (UNSENT.has(code) || code.startsWith('ERR_TLS') || code.includes('CERT'))) {
    return new WorkerCallError('unreachable', message, { cause: error })
  }
  if (error instanceof errors.HeadersTimeoutError || error instanceof errors.BodyTimeoutError) {
    return new WorkerCallError('timeout', message, { cause: error })
  }
  if (error instanceof Error && error.name === 'TimeoutError') {
    return new WorkerCallError('timeout', message, { cause: error })
  }
  if (error instanceof errors.RequestAbortedError || (error instanceof Error && error.name === 'AbortError')) {
    return new WorkerCallError('aborted', message, { cause: error })
  }
  if (error instanceof errors.HTTPParserError || error instanceof errors.ResponseExceededMaxSizeError) {
    return new WorkerCallError('protocol', message, { cause: error })
  }
  return new WorkerCallError('reset', message, { cause: error })
}

function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined
  if ('code' in error && typeof error.code === 'string') return error.code
  // Happy eyeballs answers an AggregateError whose own code is that of one try.
  if ('errors' in error && Array.isArray(error.errors)) return codeOf(error.errors[0])
  return undefined
}
