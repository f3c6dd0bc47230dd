import { type LookupAddress, lookup } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'

// Addresses at which a cloud hands its secrets to the machine, and the link-local ranges they mostly live in. No ComfyUI
// is there, and whoever could make the gateway call them would read those secrets through it.
const forbidden = new BlockList()
forbidden.addSubnet('169.254.0.0', 16)
forbidden.addSubnet('fe80::', 10, 'ipv6')
// The same IPv4 range as NAT64 carries it; ::ffff:169.254.0.0/112 is seen as IPv4 by BlockList itself.
forbidden.addSubnet('64:ff9b::a9fe:0', 112, 'ipv6')
forbidden.addAddress('fd00:ec2::254', 'ipv6')
forbidden.addAddress('fd20:ce::254', 'ipv6')
for (const address of ['100.100.100.200', '168.63.129.16', '192.0.0.192']) forbidden.addAddress(address)

/** True for a metadata or link-local address, which is never called. Anything that is no IP address is false. */
export function isForbiddenAddress(address: string): boolean {
  const bare = address.replace(/^\[(.*)\]$/, '$1').replace(/%.*$/, '')
  const family = isIP(bare)
  return family !== 0 && forbidden.check(bare, family === 4 ? 'ipv4' : 'ipv6')
}

/** The name resolves, and only to addresses that are never called. */
export class ForbiddenAddressError extends Error {
  readonly code = 'ERR_FORBIDDEN_ADDRESS'

  constructor() {
    super('it is a metadata or link-local address')
    this.name = 'ForbiddenAddressError'
  }
}

/**
 * Resolves a name for a connection that is being made, leaving out forbidden addresses: what is checked is what is
 * dialled, whatever the name resolves to later. Literal addresses never come here; ask `isForbiddenAddress`.
 */
export const lookupDialable: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, found) => {
    // The callback takes one address or a list, as `options.all` says; its type cannot tell them apart.
    const answer = callback as (
      error: NodeJS.ErrnoException | null,
      address: string | LookupAddress[],
      family?: number,
    ) => void
    if (error) return answer(error, options.all ? [] : '')
    const dialable = found.filter(({ address }) => !isForbiddenAddress(address))
    const [first] = dialable
    if (!first) return answer(new ForbiddenAddressError(), options.all ? [] : '')
    if (options.all) return answer(null, dialable)
    answer(null, first.address, first.family)
  })
}
