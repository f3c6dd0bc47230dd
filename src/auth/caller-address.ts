import { isIP } from 'node:net'
import type { FastifyServerOptions } from 'fastify'

/**
 * Fastify's `trustProxy` for `TRUSTED_PROXIES`: addresses and CIDR ranges, never a count of hops, since a count lets
 * anybody who reaches the port directly forge the rest. An empty list believes no `X-Forwarded-*` at all.
 */
export function trustProxyOf(trustedProxies: readonly string[]): NonNullable<FastifyServerOptions['trustProxy']> {
  return trustedProxies.length === 0 ? false : [...trustedProxies]
}

/**
 * The one form of a caller's address, from `request.ip`: IPv4 on a dual-stack socket as IPv4, without the port that some
 * proxies add and without zone. What a misled proxy passed on that is no address counts as the socket's own address.
 */
export function callerAddress(request: { ip: string; socket: { remoteAddress?: string | undefined } }): string {
  return addressIn(request.ip) ?? addressIn(request.socket.remoteAddress ?? '') ?? 'unknown'
}

function addressIn(text: string): string | undefined {
  const withoutPort = /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(text)?.[1] ?? /^\[(.*)\](?::\d+)?$/.exec(text)?.[1] ?? text
  const address = withoutPort.replace(/%.*$/, '').toLowerCase()
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1] ?? address
  return isIP(mapped) === 0 ? undefined : mapped
}
