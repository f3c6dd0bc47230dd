import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { callerAddress, trustProxyOf } from '../../src/auth/caller-address.ts'

async function callerSeen(trustedProxies: string[], forwardedFor: string | undefined): Promise<string> {
  const app = Fastify({ trustProxy: trustProxyOf(trustedProxies) })
  app.get('/', async (request) => callerAddress(request))
  onTestFinished(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const headers = forwardedFor === undefined ? {} : { 'x-forwarded-for': forwardedFor }
  return (await fetch(`http://127.0.0.1:${port}/`, { headers })).text()
}

describe('the address of a caller', () => {
  it.each<[name: string, trusted: string[], forwardedFor: string | undefined, address: string]>([
    ['is the socket’s', [], undefined, '127.0.0.1'],
    ['is the socket’s while no proxy is trusted', [], '9.9.9.9', '127.0.0.1'],
    ['is the socket’s when another proxy is trusted', ['10.0.0.0/8'], '9.9.9.9', '127.0.0.1'],
    ['is what a trusted proxy says', ['127.0.0.1'], '9.9.9.9', '9.9.9.9'],
    ['is what a trusted range says', ['127.0.0.0/8'], '9.9.9.9', '9.9.9.9'],
    ['is the last that no trusted proxy added', ['127.0.0.1', '10.0.0.0/8'], '6.6.6.6, 9.9.9.9, 10.1.2.3', '9.9.9.9'],
    ['leaves out the port that a proxy adds', ['127.0.0.1'], '9.9.9.9:4711', '9.9.9.9'],
    ['is IPv4 where it was mapped', ['127.0.0.1'], '::FFFF:9.9.9.9', '9.9.9.9'],
    ['may be IPv6 in brackets', ['127.0.0.1'], '[2001:DB8::7]:4711', '2001:db8::7'],
    ['is the socket’s when the proxy passes on nonsense', ['127.0.0.1'], '<script>', '127.0.0.1'],
  ])('%s', async (_name, trusted, forwardedFor, address) => {
    expect(await callerSeen(trusted, forwardedFor)).toBe(address)
  })
})
