import { timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Answer, empty, text } from './answers.ts'
import { playFault, sendAnswer } from './broken-answers.ts'
import type { FaultPlan } from './faults.ts'
import type { Gate } from './gate.ts'
import { bareRoute, type Ledger } from './ledger.ts'
import { answerRequest } from './routes.ts'
import { is2026, MAX_BODY_BYTES, type WorkerState } from './worker-state.ts'

export interface HttpOptions {
  state: WorkerState
  ledger: Ledger
  faults: FaultPlan
  gate: Gate
  /** Basic auth that every request needs, as a proxy in front of ComfyUI may ask for. */
  auth: { username: string; password: string } | undefined
  latencyMs: number
  /** Another number after the worker died: what came before must not be done by its successor. */
  life: () => number
}

/** The worker died while the request waited. */
class DeadWorkerError extends Error {}

const SERVER = 'Python/3.11 aiohttp/3.14.0'

/** Takes one request from its first byte to its answer. Rejects when the worker died meanwhile. */
export async function handleHttp(
  options: HttpOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { ledger, faults, gate, latencyMs, state } = options
  const life = options.life()
  const mustLive = (): void => {
    if (options.life() !== life) throw new DeadWorkerError()
  }
  // The kernel takes a request's bytes even when the process stands still.
  const body = await readBody(request)
  await gate.pass()
  mustLive()
  const method = request.method ?? 'GET'
  const url = request.url ?? '/'
  const path = bareRoute(url)
  ledger.request({ method, path: url, headers: request.headers }, body ?? Buffer.alloc(0))
  if (latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, latencyMs).unref())
  const work = async (): Promise<Answer> => {
    await gate.pass()
    mustLive()
    const refused = refusal(options, request)
    if (refused) return refused
    if (!body) return tooLarge()
    const query = new URLSearchParams(url.split('?').slice(1).join('?'))
    return answerRequest(state, { method, path, query, headers: request.headers, body })
  }
  response.setHeader('server', SERVER)
  const fault = faults.take(method, path)
  if (fault) await playFault(fault, request, response, work)
  else sendAnswer(response, await work())
}

/** What stands before every route, websocket included: credentials and the origin guard. */
export function refusal({ auth, state }: HttpOptions, { headers }: IncomingMessage): Answer | undefined {
  if (auth && !hasCredentials(headers.authorization ?? '', auth)) {
    const answer = text(401, '401: Unauthorized')
    answer.headers['www-authenticate'] = 'Basic realm="ComfyUI"'
    return answer
  }
  if (is2026(state) && headers['sec-fetch-site'] === 'cross-site') return empty(403)
  return isForeign(headers.host, headers.origin) ? empty(403) : undefined
}

function hasCredentials(header: string, { username, password }: { username: string; password: string }): boolean {
  const expected = Buffer.from(`Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`)
  const given = Buffer.from(header)
  return given.length === expected.length && timingSafeEqual(given, expected)
}

/** A page of another origin speaks to a loopback address. */
function isForeign(host: string | undefined, origin: string | undefined): boolean {
  if (!host || !origin) return false
  const [hostName, hostPort] = splitHost(host.toLowerCase())
  const isLoopback = hostName === 'localhost' || hostName === '[::1]' || /^127\./.test(hostName)
  const other = /^[a-z][a-z0-9+.-]*:\/\/([^/]+)/.exec(origin.toLowerCase())?.[1]
  if (!isLoopback || other === undefined) return false
  const [otherName, otherPort] = splitHost(other)
  if (hostName !== otherName) return true
  return hostPort !== '' && otherPort !== '' && hostPort !== otherPort
}

function splitHost(host: string): [string, string] {
  const found = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(host)
  return [found?.[1] ?? host, found?.[2] ?? '']
}

/** The whole body, or undefined when it is over the limit. What a broken upload sent so far counts as the body. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of request) {
      // Without an encoding set, a request gives Buffers.
      const bytes = chunk as Buffer
      size += bytes.length
      // Read to its end all the same, so that the client sees the answer and not a reset.
      if (size > MAX_BODY_BYTES) chunks.length = 0
      else chunks.push(bytes)
    }
  } catch {
    // The client went away.
  }
  return size > MAX_BODY_BYTES ? undefined : Buffer.concat(chunks)
}

const tooLarge = (): Answer => text(413, `Maximum request body size ${MAX_BODY_BYTES} exceeded.`)
