import { describe, expect, it, vi } from 'vitest'
import { createComfyClient } from '../../src/comfyui/client.ts'
import { isForbiddenAddress, lookupDialable } from '../../src/comfyui/dialable.ts'
import { createEndpoint } from '../../src/comfyui/endpoint.ts'
import { openComfySocket } from '../../src/comfyui/socket.ts'
import { createSimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { whyNotCallable } from '../../src/workers/trial-call.ts'

/** What the names of these tests stand for; all other names are looked up as ever. */
const names: Record<string, string[]> = {
  'metadata.test': ['169.254.169.254'],
  'mixed.test': ['169.254.169.254', 'fe80::1', '127.0.0.1'],
}

vi.mock('node:dns', async (importOriginal) => {
  const dns = await importOriginal<typeof import('node:dns')>()
  const lookup = (hostname: string, options: object, callback: (...answer: unknown[]) => void): void => {
    const addresses = names[hostname]
    if (!addresses) {
      ;(dns.lookup as (...call: unknown[]) => void)(hostname, options, callback)
      return
    }
    callback(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )
  }
  return { ...dns, lookup }
})

const clocks = { connectTimeoutMs: 500, timeoutMs: 1_000 }

describe('an address that is never called', () => {
  it.each<[address: string, forbidden: boolean]>([
    ['169.254.169.254', true],
    ['169.254.0.0', true],
    ['::ffff:169.254.169.254', true],
    ['[::ffff:a9fe:a9fe]', true],
    ['fe80::1', true],
    ['fe80::1%eth0', true],
    ['febf::1', true],
    ['fd00:ec2::254', true],
    ['169.253.255.255', false],
    ['169.255.0.0', false],
    ['fec0::1', false],
    ['127.0.0.1', false],
    ['10.0.0.1', false],
    ['fd00::1', false],
    ['gpu1', false],
    ['', false],
  ])('%s: %s', (address, forbidden) => expect(isForbiddenAddress(address)).toBe(forbidden))

  it('is what a name must not stand for, even when nobody asks whether a worker answers', async () => {
    expect(await whyNotCallable(createEndpoint('http://metadata.test'), clocks)).toMatch(/metadata or link-local/)
    expect(await whyNotCallable(createEndpoint('http://mixed.test'), clocks)).toBeUndefined()
    expect(await whyNotCallable(createEndpoint('http://no-such-name.invalid'), clocks)).toBeUndefined()
  })
})

describe('a connection', () => {
  it('is never made to a forbidden address, whatever the name stands for by then', async () => {
    const client = createComfyClient({
      endpoint: createEndpoint('http://metadata.test'),
      connectTimeoutMs: 500,
      requestTimeoutMs: 500,
    })
    await expect(client.probe()).rejects.toMatchObject({
      fault: 'unreachable',
      message: expect.stringMatching(/metadata/),
    })
    await client.close()
  })

  it('of a worker’s socket is not, either', async () => {
    const endpoint = createEndpoint('http://metadata.test')
    const reason = await new Promise<string>((resolve) => {
      openComfySocket(
        { endpoint, clientId: 'c', connectTimeoutMs: 500, pingIntervalMs: 20_000 },
        { onOpen() {}, onText() {}, onBinary() {}, onSign() {}, onClose: resolve },
      )
    })
    expect(reason).toMatch(/metadata/)
  })

  it('is made to the other addresses of a name', async () => {
    const worker = await createSimulatedWorker()
    const endpoint = createEndpoint(`http://mixed.test:${worker.port}`)
    const client = createComfyClient({ endpoint, connectTimeoutMs: 500, requestTimeoutMs: 500 })
    await client.probe()
    await client.close()
    await worker.close()
  })

  it('gets one address or all, as it asks', async () => {
    const one = await new Promise((resolve) => {
      lookupDialable('mixed.test', {}, (error, address, family) => resolve([error, address, family]))
    })
    expect(one).toEqual([null, '127.0.0.1', 4])
    const all = await new Promise((resolve) => {
      lookupDialable('mixed.test', { all: true }, (error, addresses) => resolve([error, addresses]))
    })
    expect(all).toEqual([null, [{ address: '127.0.0.1', family: 4 }]])
  })
})
