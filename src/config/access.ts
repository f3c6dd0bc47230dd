import { BlockList, isIP, isIPv6 } from 'node:net'

/** Lists that say who may call the gateway: what one item must be, and its normal form (undefined: it is wrong). */
export interface ListItem {
  readonly expected: string
  normalise(item: string): string | undefined
}

/** `ALLOWED_HOSTS`: a name or address with an optional port, lower case. */
export const allowedHost: ListItem = {
  expected: 'a host name with or without a port',
  normalise: (item) => {
    const text = isIPv6(item) ? `[${item}]` : item
    return /^([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?$/i.test(text) ? text.toLowerCase() : undefined
  },
}

/** `ALLOWED_ORIGINS`: scheme, host and port as a browser sends them. Apps have schemes of their own (`tauri://localhost`). */
export const allowedOrigin: ListItem = {
  expected: 'an origin such as https://example.org, without a path',
  normalise: (item) => {
    if (!/^[a-z][a-z0-9+.-]*:\/\/[^/?#@*]+\/?$/i.test(item) || !URL.canParse(item)) return undefined
    const { origin } = new URL(item)
    return origin === 'null' ? item.toLowerCase().replace(/\/$/, '') : origin
  },
}

/** `TRUSTED_PROXIES`: an IP address or a CIDR range. */
export const trustedProxy: ListItem = {
  expected: 'an IP address or a CIDR range such as 10.0.0.0/8',
  normalise: (item) => {
    const [address = '', prefix, ...more] = item.split('/')
    const family = isIP(address)
    if (family === 0 || more.length > 0) return undefined
    if (prefix === undefined) return item.toLowerCase()
    const bits = family === 4 ? 32 : 128
    return /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits ? item.toLowerCase() : undefined
  },
}

/** `PASS_THROUGH`: `all`, `off`, or the beginning of a path, lower case and without `/api` and trailing slash. */
export const passedPath: ListItem = {
  expected: 'all, off, or a path such as /vhs',
  normalise: (item) => {
    const text = item.toLowerCase()
    if (text === 'all' || text === 'off') return text
    const path = text.replace(/^\/api(?=\/)/, '').replace(/\/+$/, '')
    return /^(\/[\w.~-]+)+$/.test(path) && !/\/\.{1,2}(\/|$)/.test(path) ? path : undefined
  },
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8)
loopback.addAddress('::1', 'ipv6')

/** True when only this machine can reach `host`. A name other than `localhost` counts as reachable from outside. */
export function isLoopbackHost(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, '$1').toLowerCase()
  if (address === 'localhost') return true
  const family = isIP(address)
  // BlockList compares IPv4-mapped IPv6 addresses (::ffff:127.0.0.1) with the IPv4 rules by itself.
  return family !== 0 && loopback.check(address, family === 4 ? 'ipv4' : 'ipv6')
}
