import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { Readable } from 'node:stream'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import WebSocket from 'ws'
import { createComfyClient } from '../../../src/comfyui/client.ts'
import { createEndpoint } from '../../../src/comfyui/endpoint.ts'
import { passThrough } from '../../../src/routes/comfyui/pass-through.ts'
import type { Worker } from '../../../src/workers/worker.ts'
import { buildTestGateway, type TestGateway, until } from '../../support/app.ts'
import { plainApp } from '../gateway/plain-app.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

interface Echo {
  worker: string
  method: string
  headers: Record<string, string>
  body_bytes: number
  body_sha256: string
}

const named = (count: number) => Array.from({ length: count }, (_, n) => ({ name: `gpu ${n}` }))
const echo = async (url: string, init?: RequestInit): Promise<Echo> => (await (await fetch(url, init)).json()) as Echo

/** The pass-through in front of one server of the test's own. */
async function inFrontOf(
  listener: (request: IncomingMessage, response: ServerResponse) => void,
  { maxBodyBytes = 1_000_000 } = {},
): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const endpoint = createEndpoint(`http://127.0.0.1:${(server.address() as AddressInfo).port}/base`)
  const client = createComfyClient({ endpoint, connectTimeoutMs: 500, requestTimeoutMs: 2_000 })
  // The parts of a worker that are asked for here.
  const config = { url: `${endpoint.origin}/base` }
  const worker = { id: 'w', client, config, state: { kind: 'healthy' } } as unknown as Worker
  const app = await plainApp(
    passThrough({
      registry: { get: () => worker, list: () => [worker], endpointOf: () => endpoint },
      uiWorker: { current: async () => worker },
      port: 'main',
      passThrough: ['all'],
      maxBodyBytes,
      upgradeTimeoutMs: 1_000,
    }),
  )
  onTestFinished(async () => {
    await app.close()
    await client.close()
    server.closeAllConnections()
    server.close()
  })
  return app.listen({ host: '127.0.0.1', port: 0 })
}

describe('a route that only a custom node has', () => {
  it.each(['GET', 'POST', 'PUT', 'PATCH', 'DELETE'])('reaches a worker by %s, bare and under /api', async (method) => {
    fleet = await buildTestGateway({ workers: 1 })
    const body = method === 'GET' ? null : 'abc'
    for (const path of ['/demo/echo', '/api/demo/echo?a=%2F']) {
      const answer = await echo(fleet.url + path, { method, body, headers: { 'x-mine': '1', cookie: 'a=b' } })
      expect(answer).toMatchObject({ method, body_bytes: body === null ? 0 : 3, headers: { 'x-mine': '1' } })
      expect(answer.headers).not.toHaveProperty('cookie')
      expect(fleet.workers[0]?.ledger.requests.map((request) => request.path)).toContain(path)
    }
  })

  it('is asked of the same worker for the same client, and of several for many', async () => {
    fleet = await buildTestGateway({ workers: named(3) })
    const { url } = fleet
    const workers = new Set<string>()
    for (let n = 0; n < 12; n++) {
      const path = `${url}/demo/echo?clientId=c${n}`
      const { worker } = await echo(path)
      workers.add(worker)
      expect((await echo(path, { method: 'POST', body: 'x' })).worker).toBe(worker)
    }
    expect(workers.size).toBeGreaterThan(1)
    const unnamed = await Promise.all(Array.from({ length: 4 }, () => echo(`${url}/demo/echo`)))
    expect(new Set(unnamed.map(({ worker }) => worker)).size).toBe(1)
  })

  it('moves to another worker when its own is down', async () => {
    fleet = await buildTestGateway({ workers: named(2) })
    const { url, workers, gateway } = fleet
    const path = `${url}/demo/echo?clientId=c`
    const { worker } = await echo(path)
    await workers.find(({ name }) => name === worker)?.kill()
    await until(() => gateway.workers().some(({ state }) => state.kind !== 'healthy'))
    expect((await echo(path)).worker).not.toBe(worker)
  })

  it('is 503 with Retry-After when no worker is up', async () => {
    fleet = await buildTestGateway({ env: { WORKERS: 'http://127.0.0.1:9' }, untilHealthy: false })
    const answer = await fetch(`${fleet.url}/demo/echo`)
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toMatch(/^\d+$/)
    expect(await answer.json()).toMatchObject({ error: { type: 'no_worker' } })
  })

  it('cannot act as a page of the gateway', async () => {
    const url = await inFrontOf((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html', 'set-cookie': 'a=b', 'service-worker-allowed': '/' })
      response.end('<script>1</script>')
    })
    const { headers } = await fetch(`${url}/pack/page`)
    expect(headers.get('content-security-policy')).toContain('sandbox')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    for (const name of ['set-cookie', 'service-worker-allowed']) expect(headers.get(name)).toBeNull()
  })

  it.each([403, 404, 405, 409, 500, 503])('may answer %s itself', async (status) => {
    const url = await inFrontOf((_request, response) => {
      response.writeHead(status, { 'content-type': 'text/plain', 'retry-after': '7' }).end('no')
    })
    const answer = await fetch(`${url}/pack/x`)
    expect([answer.status, await answer.text(), answer.headers.get('retry-after')]).toEqual([status, 'no', '7'])
  })

  it.each([
    ['/base/pack/y?a=1', '/pack/y?a=1'],
    ['y', '/pack/y'],
    ['http://elsewhere.example/x', undefined],
    ['//elsewhere.example/x', undefined],
    ['/other/x', undefined],
    ['/base//elsewhere.example', '/elsewhere.example'],
  ])('redirects to %s as %s', async (location, expected) => {
    const url = await inFrontOf((_request, response) => response.writeHead(302, { location }).end())
    const answer = await fetch(`${url}/pack/x`, { redirect: 'manual' })
    expect(answer.status).toBe(302)
    expect(answer.headers.get('location') ?? undefined).toBe(expected)
  })
})

describe('bodies on their way through', () => {
  it('are streamed to the worker: it hears the first byte before the last was sent', async () => {
    let heard = ''
    const url = await inFrontOf(async (incoming, response) => {
      for await (const chunk of incoming) heard += String(chunk)
      response.end(heard)
    })
    const parts = new Readable({ read() {} })
    const answer = fetch(`${url}/pack/x`, {
      method: 'POST',
      body: Readable.toWeb(parts),
      duplex: 'half',
    } as RequestInit)
    parts.push('first ')
    await until(() => heard === 'first ')
    parts.push('last')
    parts.push(null)
    expect(await (await answer).text()).toBe('first last')
  })

  it('are streamed back, at the pace of the client', async () => {
    const chunk = Buffer.alloc(64 * 1024)
    const total = 256 * 1024 * 1024
    let written = 0
    const url = await inFrontOf((_incoming, response) => {
      const more = (): void => {
        while (written < total) {
          written += chunk.length
          if (!response.write(chunk)) {
            response.once('drain', more)
            return
          }
        }
        response.end()
      }
      more()
    })
    const { port } = new URL(url)
    const client = connect(Number(port), '127.0.0.1')
    onTestFinished(() => void client.destroy())
    client.pause()
    client.write('GET /pack/x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n')
    let before = -1
    // It stands still once every buffer on the way is full.
    await until(async () => {
      const isStill = written > 0 && written === before
      before = written
      await new Promise((resolve) => setTimeout(resolve, 200))
      return isStill && written === before
    })
    expect(written).toBeLessThan(64 * 1024 * 1024)
  })

  it('end at the limit with 413, whether their length is known or not', async () => {
    const reached: number[] = []
    const url = await inFrontOf(
      (incoming, response) => {
        let bytes = 0
        incoming.on('data', (chunk: Buffer) => {
          bytes += chunk.length
        })
        incoming.on('end', () => response.end('taken'))
        incoming.on('close', () => reached.push(bytes))
      },
      { maxBodyBytes: 100_000 },
    )
    const known = await fetch(`${url}/pack/x`, { method: 'POST', body: Buffer.alloc(100_001) })
    expect(known.status).toBe(413)
    expect(reached).toEqual([])
    const status = await new Promise((resolve, reject) => {
      const outgoing = request(`${url}/pack/x`, { method: 'POST' }, (answer) => {
        answer.resume()
        resolve(answer.statusCode)
      })
      outgoing.on('error', reject)
      for (let n = 0; n < 11; n++) outgoing.write(Buffer.alloc(10_000))
      outgoing.end()
    })
    expect(status).toBe(413)
    expect((await fetch(`${url}/pack/x`, { method: 'POST', body: Buffer.alloc(100_000) })).status).toBe(200)
  })

  it('end at the worker when the client goes', async () => {
    let isGone = false
    const url = await inFrontOf((incoming, response) => {
      response.write('x')
      incoming.socket.once('close', () => {
        isGone = true
      })
    })
    const leaving = new AbortController()
    await fetch(`${url}/pack/x`, { signal: leaving.signal })
    leaving.abort()
    await until(() => isGone)
  })

  it.each([
    ['GET', 200],
    ['GET', 204],
    ['GET', 304],
    ['HEAD', 200],
    ['POST', 200],
    ['GET', 302],
  ])('may be empty, as often as one likes: %s answered %s', async (method, status) => {
    const url = await inFrontOf((incoming, response) => {
      incoming.resume()
      response.writeHead(status, status === 302 ? { location: '/base/x' } : {}).end()
    })
    for (let n = 0; n < 60; n++) {
      const answer = await fetch(`${url}/pack/x`, { method, redirect: 'manual' })
      expect([answer.status, await answer.text()]).toEqual([status, ''])
    }
  })

  it('keep their bytes', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const body = Buffer.from(Array.from({ length: 3_000_000 }, (_, n) => (n * 7919) & 255))
    const answer = await echo(`${fleet.url}/demo/echo`, { method: 'PUT', body })
    expect(answer.body_sha256).toBe(createHash('sha256').update(body).digest('hex'))
  })
})

describe('websockets of custom nodes', () => {
  const open = (url: string, options: { protocols?: string[]; headers?: Record<string, string> } = {}) =>
    new Promise<WebSocket>((resolve, reject) => {
      const socket = new WebSocket(url.replace(/^http/, 'ws'), options.protocols ?? [], {
        headers: options.headers ?? {},
      })
      onTestFinished(() => socket.terminate())
      socket.once('open', () => resolve(socket))
      socket.once('error', reject)
    })
  const answerTo = (socket: WebSocket, message: string | Buffer) =>
    new Promise<string>((resolve) => {
      socket.once('message', (data) => resolve(String(data)))
      socket.send(message)
    })

  it('go to a worker and back, with their protocol, until either side ends', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const socket = await open(`${url}/api/demo/socket?x=1`, { protocols: ['mine'], headers: { cookie: 'a=b' } })
    expect(socket.protocol).toBe('mine')
    expect(await answerTo(socket, 'hello')).toBe('hello')
    const large = 'x'.repeat(900_000)
    expect(await answerTo(socket, large)).toBe(large)
    const upgrade = workers[0]?.ledger.requests.find(({ path }) => path === '/api/demo/socket?x=1')
    expect(upgrade?.headers).not.toHaveProperty('cookie')
    const closed = new Promise((resolve) => socket.once('close', resolve))
    await workers[0]?.kill()
    await closed
  })

  it('are refused as the worker refuses, and where nothing is passed on', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    await expect(open(`${fleet.url}/pack/none`)).rejects.toThrow('404')
    await expect(open(`${fleet.url}/api/gateway/none`)).rejects.toThrow('404')
    await expect(open(`${fleet.url}/manager/reboot`)).rejects.toThrow('404')
    expect(fleet.workers[0]?.ledger.requests.some(({ path }) => path.includes('manager'))).toBe(false)
  })

  it('are guarded like everything else', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    await expect(open(`${fleet.url}/demo/socket`, { headers: { origin: 'https://evil.example' } })).rejects.toThrow(
      '403',
    )
  })

  it('end when the gateway stops', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const socket = await open(`${fleet.url}/demo/socket`)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    await fleet.close()
    fleet = undefined
    await closed
  })
})

describe('what is closed', () => {
  it('is 404 with a body that clients can read, and reaches no worker', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    for (const path of [
      '/manager/reboot',
      '/api/v2/manager/queue/start',
      '//customnode//install',
      '/MANAGER/%72eboot/',
    ]) {
      for (const method of ['GET', 'POST']) {
        const answer = await fetch(fleet.url + path, { method })
        expect(answer.status).toBe(404)
        expect(await answer.json()).toMatchObject({ error: { type: 'route_closed' } })
      }
    }
    expect(fleet.workers[0]?.ledger.requests.filter(({ path }) => /manager|customnode|eboot/i.test(path))).toEqual([])
  })

  it('is everything unknown with PASS_THROUGH=off', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { PASS_THROUGH: 'off' } })
    expect((await fetch(`${fleet.url}/demo/echo`)).status).toBe(404)
    expect((await fetch(`${fleet.url}/demo/echo`, { method: 'POST' })).status).toBe(405)
    expect((await fetch(`${fleet.url}/extensions`)).status).toBe(200)
  })
})
