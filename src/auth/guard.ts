import { isIP } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { HttpError } from '../errors.ts'

export interface GuardOptions {
  /** `HOST`: the address the gateway listens on; a name there is allowed. */
  listenHost: string
  /** `ALLOWED_HOSTS`, lower case, each with or without a port. */
  allowedHosts: readonly string[]
  /** `ALLOWED_ORIGINS` in the form browsers send. */
  allowedOrigins: readonly string[]
  /** Paths that a link on another site may open. */
  pages?: readonly string[]
}

/** What the guard reads of a request. `host` and `protocol` are those the client used, behind a trusted proxy too. */
export type GuardedRequest = Pick<FastifyRequest, 'method' | 'url' | 'headers' | 'host' | 'protocol'> & {
  raw: { rawHeaders: readonly string[] }
}

/**
 * Keeps web pages of others from using the gateway through a visitor's browser: by requests across origins, and by
 * names that are made to point here (DNS rebinding). Programs send neither `Origin` nor `Sec-Fetch-*` and pass.
 */
export interface Guard {
  /** Whether there are origins of others at all, so that answers vary with the origin. */
  readonly allowsOrigins: boolean
  /** Throws HttpError, 400 for a `Host` that cannot be read and 403 for what is not allowed. */
  check(request: GuardedRequest): void
  /** The request's origin when it is one of `ALLOWED_ORIGINS`. */
  allowedOriginOf(request: Pick<GuardedRequest, 'headers'>): string | undefined
}

interface HostPort {
  hostname: string
  port: string | undefined
}

const DEFAULT_PAGES = ['/', '/cluster', '/cluster/']
/** A page on one of these schemes can be ours; an app's `tauri://localhost` or an extension cannot. */
const WEB_ORIGIN = /^(?:https?|wss?):\/\/([^/?#@\s]+)$/
const MAX_ECHOED_HEADERS = 1_000
const PREFLIGHT_SECONDS = 600

export function createGuard(options: GuardOptions): Guard {
  const hosts = options.allowedHosts.flatMap((host) => readHost(host) ?? [])
  const listenHost = readHost(isIP(options.listenHost) === 6 ? `[${options.listenHost}]` : options.listenHost)
  const origins = new Set(options.allowedOrigins.map((origin) => origin.toLowerCase()))
  const pages = new Set(options.pages ?? DEFAULT_PAGES)

  function isKnown({ hostname, port }: HostPort, protocol: string): boolean {
    // A page at an address or at localhost cannot have got here under a name of somebody else.
    if (isAddress(hostname) || hostname === 'localhost' || hostname === listenHost?.hostname) return true
    const effectivePort = port ?? (protocol === 'https' ? '443' : '80')
    return hosts.some((host) => host.hostname === hostname && (host.port === undefined || host.port === effectivePort))
  }

  function knownHost(text: string, protocol: string): HostPort {
    const host = readHost(text)
    if (!host) throw new HttpError(400, 'bad_host', 'The Host header cannot be read')
    if (!isKnown(host, protocol)) {
      throw new HttpError(
        403,
        'host_not_allowed',
        `The gateway does not answer to the name ${host.hostname}; if it is meant to, add it to ALLOWED_HOSTS`,
      )
    }
    return host
  }

  function allowedOriginOf({ headers }: Pick<GuardedRequest, 'headers'>): string | undefined {
    const { origin } = headers
    return origin !== undefined && origins.has(origin.toLowerCase()) ? origin : undefined
  }

  function isPageVisit({ method, url, headers }: GuardedRequest): boolean {
    return (
      method === 'GET' &&
      headers['sec-fetch-mode'] === 'navigate' &&
      headers['sec-fetch-dest'] === 'document' &&
      pages.has(url.split('?', 1)[0] ?? '')
    )
  }

  return {
    allowsOrigins: origins.size > 0,
    allowedOriginOf,

    check(request) {
      const { headers, protocol } = request
      if (countHeader(request.raw.rawHeaders, 'host') > 1) {
        throw new HttpError(400, 'bad_host', 'A request has one Host header')
      }
      // What a trusted proxy says the client used must be known, and what came in `Host` as well: a rebound page on
      // the proxy's own machine can send X-Forwarded-Host but cannot change Host.
      if (headers.host !== undefined) knownHost(headers.host, protocol)
      const host = request.host === '' ? undefined : knownHost(request.host, protocol)

      if (allowedOriginOf(request) !== undefined) return
      const site = headers['sec-fetch-site']
      if (typeof site === 'string' && site.trim().toLowerCase() === 'cross-site' && !isPageVisit(request)) {
        throw originRefused('A page of another site')
      }
      // A sandboxed frame of any site has the origin `null` (GHSA-5xxr-jvhm-jxmj in ComfyUI), so it is nobody's.
      if (headers.origin !== undefined && !(host && isSameOrigin(headers.origin, host))) {
        throw originRefused(`The origin ${printable(headers.origin)}`)
      }
    },
  }
}

/** Puts the guard in front of every route, websocket upgrades too, and tells the browsers of allowed origins. */
export function installGuard(app: FastifyInstance, guard: Guard): void {
  app.addHook('onRequest', async (request) => guard.check(request))
  if (!guard.allowsOrigins) return
  // At the end, since routes set a Vary of their own.
  app.addHook('onSend', async (request, reply) => {
    addVary(reply, 'Origin')
    const origin = guard.allowedOriginOf(request)
    if (origin === undefined) return
    reply.header('access-control-allow-origin', origin)
    reply.header('access-control-allow-credentials', 'true')
    reply.header('access-control-expose-headers', 'Content-Disposition, Content-Range, ETag, Retry-After')
    if (request.method === 'OPTIONS') answerPreflight(request, reply)
  })
}

function answerPreflight(request: FastifyRequest, reply: FastifyReply): void {
  if (request.headers['access-control-request-method'] === undefined) return
  reply.header('access-control-allow-methods', 'GET, HEAD, POST, PUT, PATCH, DELETE')
  reply.header('access-control-max-age', String(PREFLIGHT_SECONDS))
  const wanted = request.headers['access-control-request-headers']
  if (wanted !== undefined && wanted.length <= MAX_ECHOED_HEADERS && /^[\w\-, ]+$/.test(wanted)) {
    reply.header('access-control-allow-headers', wanted)
  }
}

function addVary(reply: FastifyReply, name: string): void {
  const before = reply.getHeader('vary')
  const names = before === undefined ? [] : String(before).split(/\s*,\s*/)
  if (names.includes('*') || names.some((known) => known.toLowerCase() === name.toLowerCase())) return
  reply.header('vary', [...names, name].join(', '))
}

/** Host name (lower case, without the root's dot) and port; undefined when it is neither name nor address. */
function readHost(text: string): HostPort | undefined {
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)(?::(\d{1,5}))?$/i.exec(text)
  const [, name, port] = match ?? []
  if (name === undefined) return undefined
  if (name.startsWith('[') && !isAddress(name)) return undefined
  return { hostname: name.toLowerCase().replace(/\.$/, ''), port }
}

function isAddress(hostname: string): boolean {
  return isIP(hostname.replace(/^\[(.*)\]$/, '$1')) !== 0
}

/** As ComfyUI compares: where one of the two names no port, the names decide. */
function isSameOrigin(origin: string, host: HostPort): boolean {
  const from = readHost(WEB_ORIGIN.exec(origin.toLowerCase())?.[1] ?? '')
  if (from?.hostname !== host.hostname) return false
  return from.port === undefined || host.port === undefined || from.port === host.port
}

function countHeader(rawHeaders: readonly string[], name: string): number {
  let count = 0
  for (let index = 0; index < rawHeaders.length; index += 2) if (rawHeaders[index]?.toLowerCase() === name) count++
  return count
}

const originRefused = (who: string): HttpError =>
  new HttpError(
    403,
    'origin_not_allowed',
    `${who} may not use the gateway; if it is meant to, add it to ALLOWED_ORIGINS`,
  )

/** Only what a header of a well-behaved browser can hold goes into an answer. */
const printable = (text: string): string => text.replace(/[^\x21-\x7e]/g, '?').slice(0, 200)
