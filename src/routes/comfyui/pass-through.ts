import { Readable, Transform } from 'node:stream'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import PQueue from 'p-queue'
import { type StreamedAnswer, WorkerCallError } from '../../comfyui/client.ts'
import { BodyTooLargeError, HttpError, NoWorkerError } from '../../errors.ts'
import { rendezvous } from '../../scheduler/rendezvous.ts'
import type { WorkerRegistry } from '../../workers/registry.ts'
import type { UiWorker } from '../../workers/ui-worker.ts'
import type { Worker } from '../../workers/worker.ts'
import { notFound } from '../pages.ts'
import { queryValue } from './comfy-request.ts'
import { askWorker, headersFromWorker, headersToWorker, locationFromWorker, sendAnswer } from './forward.ts'
import { Tunnels } from './tunnel.ts'
import { judgeRoute, pathOf, type RouteRules } from './unknown-route.ts'
import { bindSession, workerOfQuery, workerOfSession } from './worker-pin.ts'

export interface PassThroughOptions extends RouteRules {
  registry: Pick<WorkerRegistry, 'get' | 'list' | 'endpointOf'>
  uiWorker: Pick<UiWorker, 'current'>
  maxBodyBytes: number
  /** Milliseconds for a worker's answer to a websocket handshake. */
  upgradeTimeoutMs: number
}

/** Custom nodes' routes may compute, or stream events with long pauses. */
const ANSWER_TIMEOUT_MS = 600_000
/** Calls to one worker at a time: its connections are shared with what the queue needs. */
const MAX_CALLS_PER_WORKER = 24
const RETRY_AFTER_S = 5

/** Files of one worker must not act as pages of the gateway's own origin. */
export const SANDBOX = "sandbox; default-src 'none'"
/** The editor may not be framed by others, who could make a visitor click there. */
const NO_FRAMES = "frame-ancestors 'self'"

const AWAY_PAGE = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="${RETRY_AFTER_S}"><title>ComfyFleet</title>
<p>The ComfyUI server whose editor is shown here is away. This page tries again every ${RETRY_AFTER_S} seconds.</p>
`

/**
 * Everything that no other route answers, any method, HTTP and websockets: to the worker of the editor's files, to the
 * worker that this session is bound to, or to the caller's own. Bodies are streamed both ways. Register it last.
 */
export function passThrough(options: PassThroughOptions): FastifyPluginAsync {
  const { registry, uiWorker, port, maxBodyBytes } = options
  const tunnels = new Tunnels({ timeoutMs: options.upgradeTimeoutMs })
  const turns = new WeakMap<Worker, PQueue>()

  return async (app) => {
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
    app.addHook('preClose', async () => tunnels.close())
    // Upgrades end here, before the handler: the websocket plugin would accept them for itself.
    app.addHook('onRequest', async (request, reply) => {
      if (request.ws) await upgrade(request, reply)
    })
    app.route({
      method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
      url: '/*',
      schema: { hide: true },
      handler: forward,
    })
  }

  async function forward(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const verdict = judge(request)
    if (verdict === 'nobody') return notFound(request, reply)
    if (port === 'editor' && pathOf(request.url) === '/') followPin(request, reply)
    const worker = await workerFor(verdict, request)
    if (!worker) return sendAway(request, reply)
    const path = targetOf(request)
    const body = bodyOf(request, maxBodyBytes)
    try {
      const answer = await inTurn(worker, () =>
        askWorker(
          worker,
          {
            method: request.method,
            path,
            headers: { ...headersToWorker(request.headers), ...lengthOf(request, body) },
            body: body?.stream ?? null,
            timeoutMs: ANSWER_TIMEOUT_MS,
            isCustom: true,
          },
          reply,
        ),
      )
      return sendAnswer(reply, answer, answerHeaders(answer, worker, path))
    } catch (error) {
      if (body?.isTooLarge()) throw new BodyTooLargeError(maxBodyBytes)
      // Nobody is there to be answered, and no worker is to blame.
      if (error instanceof WorkerCallError && error.fault === 'aborted') return reply.hijack()
      throw error
    }
  }

  async function upgrade(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const verdict = judge(request)
    const worker = verdict === 'nobody' ? undefined : await workerFor(verdict, request)
    if (!worker) return verdict === 'nobody' ? notFound(request, reply) : sendAway(request, reply)
    try {
      const { isOpen, status } = await tunnels.connect(request, reply, {
        endpoint: registry.endpointOf(worker.config),
        path: targetOf(request),
      })
      return isOpen ? reply : reply.code(status >= 400 ? status : 502).send()
    } catch (error) {
      if (error instanceof WorkerCallError && error.fault === 'aborted') return reply.hijack()
      throw error
    }
  }

  function judge(request: FastifyRequest): 'ui' | 'custom' | 'nobody' {
    const verdict = judgeRoute(request, options)
    if (verdict === 'closed') {
      throw new HttpError(404, 'route_closed', 'Workers are not installed on, updated or restarted through the gateway')
    }
    return verdict
  }

  /** Undefined while the only one that may answer is away. Throws NoWorkerError when a custom route has none at all. */
  async function workerFor(verdict: 'ui' | 'custom', request: FastifyRequest): Promise<Worker | undefined> {
    const pinned = pinnedTo(request)
    if (pinned) return isHealthy(pinned) ? pinned : undefined
    const clientId = queryValue(request, 'clientId')
    if (verdict === 'ui' || !clientId) {
      // The page that is served from there speaks to its own extensions' routes, which may remember it.
      const shown = await uiWorker.current()
      if (shown || verdict === 'ui') return shown
    }
    const healthy = registry.list().filter(isHealthy)
    const sticky = rendezvous(healthy, JSON.stringify([request.identity.caller, clientId ?? '']))
    if (!sticky) throw new NoWorkerError()
    return sticky
  }

  function pinnedTo(request: FastifyRequest): Worker | undefined {
    if (port !== 'editor') return undefined
    const query = pathOf(request.url) === '/' ? workerOfQuery(request, registry) : undefined
    if (query) return query
    // The page that frees the session is not the old worker's any more.
    const isFreed = pathOf(request.url) === '/' && queryValue(request, 'worker') === ''
    return isFreed ? undefined : workerOfSession(request, registry)
  }

  function followPin(request: FastifyRequest, reply: FastifyReply): void {
    if (queryValue(request, 'worker') !== undefined) bindSession(request, reply, workerOfQuery(request, registry))
  }

  function answerHeaders(answer: StreamedAnswer, worker: Worker, path: string): Record<string, string | string[]> {
    const headers = headersFromWorker(answer.headers)
    headers['x-content-type-options'] = 'nosniff'
    const policies = port === 'editor' ? NO_FRAMES : SANDBOX
    const own = headers['content-security-policy'] ?? []
    headers['content-security-policy'] = [...(Array.isArray(own) ? own : [own]), policies]
    const { location } = headers
    if (typeof location === 'string') {
      const target = locationFromWorker(location, { workerUrl: worker.config.url, path })
      if (target === undefined) delete headers.location
      else headers.location = target
    }
    return headers
  }

  /** Waits for one of the worker's turns, which ends with the answer. */
  function inTurn(worker: Worker, ask: () => Promise<StreamedAnswer>): Promise<StreamedAnswer> {
    let queue = turns.get(worker)
    if (!queue) {
      queue = new PQueue({ concurrency: MAX_CALLS_PER_WORKER })
      turns.set(worker, queue)
    }
    const own = queue
    return new Promise((resolve, reject) => {
      void own.add(async () => {
        try {
          const answer = await ask()
          // An empty answer may have ended by now, and says so only once.
          const ended = answer.body.closed || new Promise<void>((done) => answer.body.once('close', done))
          resolve(answer)
          await ended
        } catch (error) {
          reject(error)
        }
      })
    })
  }
}

const isHealthy = (worker: Worker): boolean => worker.state.kind === 'healthy'

/** Path and query as they came: names in them may be encoded in ways that matter. */
export const targetOf = ({ url }: FastifyRequest): string =>
  url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').replace(/#.*$/s, '')

interface LimitedBody {
  stream: Readable
  isTooLarge(): boolean
}

/** The body as it arrives, which fails beyond the limit. Undefined when there is none. Throws BodyTooLargeError. */
function bodyOf(request: FastifyRequest, maxBytes: number): LimitedBody | undefined {
  const { body } = request
  if (!(body instanceof Readable)) return undefined
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw new BodyTooLargeError(maxBytes)
  let seen = 0
  let isTooLarge = false
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      seen += chunk.length
      isTooLarge = seen > maxBytes
      if (isTooLarge) done(new BodyTooLargeError(maxBytes))
      else done(null, chunk)
    },
  })
  stream.on('error', () => body.unpipe(stream).resume())
  body.once('error', (error) => stream.destroy(error))
  body.pipe(stream)
  return { stream, isTooLarge: () => isTooLarge }
}

/** A length that the client gave is kept: some servers take no chunked bodies. */
function lengthOf(request: FastifyRequest, body: LimitedBody | undefined): Record<string, string> {
  const length = request.headers['content-length']
  return body === undefined || length === undefined ? {} : { 'content-length': length }
}

function sendAway(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (!String(request.headers.accept ?? '').includes('text/html')) {
    throw new NoWorkerError('The worker that answers this is away')
  }
  reply.code(503).header('retry-after', String(RETRY_AFTER_S)).header('cache-control', 'no-store')
  return reply.type('text/html; charset=utf-8').send(AWAY_PAGE)
}
