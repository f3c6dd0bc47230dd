import { readFileSync } from 'node:fs'
import { type AddressInfo, connect } from 'node:net'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import WebSocket from 'ws'
import { createGuard, type GuardOptions, installGuard } from '../../src/auth/guard.ts'
import { answerErrors } from '../../src/routes/error-handler.ts'

interface Recording {
  situations: {
    name: string
    http: { request: { method: 'GET'; path: string; headers: Record<string, string> }; response: { status: number } }[]
  }[]
}

const recording = JSON.parse(
  readFileSync(new URL('../fixtures/comfyui-0.3.64.json', import.meta.url), 'utf8'),
) as Recording

async function guardedApp(
  options: Partial<GuardOptions> = {},
  server: { trustProxy?: string[] } = {},
): Promise<FastifyInstance> {
  const app = Fastify(server)
  answerErrors(app, { maxBodyBytes: 1_000 })
  await app.register(websocket)
  installGuard(app, createGuard({ listenHost: '127.0.0.1', allowedHosts: [], allowedOrigins: [], ...options }))
  app.get('/ws', { websocket: true }, (socket) => socket.send('hello'))
  app.get('/', async () => 'page')
  app.get('/cluster/', async () => 'page')
  app.get('/prompt', async () => ({ ok: true }))
  app.get('/varied', async (_request, reply) => reply.header('vary', 'Accept-Encoding').send('x'))
  app.post('/prompt', async () => ({ ok: true }))
  app.options('*', async (_request, reply) => reply.send())
  onTestFinished(() => app.close())
  return app
}

async function listen(app: FastifyInstance): Promise<number> {
  await app.listen({ port: 0, host: '127.0.0.1' })
  return (app.server.address() as AddressInfo).port
}

type Headers = Record<string, string>

describe('the Host of a request', () => {
  const options = {
    listenHost: 'listen.example',
    allowedHosts: ['fleet.example.org', 'gpu-box.local:8000', '[2001:db8::1]:1'],
  }
  it.each<[host: string, status: number]>([
    ['127.0.0.1:8000', 200],
    ['127.0.0.1', 200],
    ['192.168.1.20:8000', 200],
    ['[::1]:8000', 200],
    ['[2001:db8::7]', 200],
    ['localhost:8000', 200],
    ['LocalHost', 200],
    ['localhost.:8000', 200],
    ['listen.example:8000', 200],
    ['fleet.example.org', 200],
    ['FLEET.example.org.:9', 200],
    ['gpu-box.local:8000', 200],
    ['gpu-box.local:8001', 403],
    ['gpu-box.local', 403],
    ['evil.example:8000', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example', 403],
    ['127.1', 403],
    ['sub.fleet.example.org', 403],
    ['fleet.example.org@evil.example', 400],
    ['fleet.example.org:80:80', 400],
    ['[::1', 400],
    ['[1.2.3.4:5]', 400],
    ['a b', 400],
  ])('%s gets %i', async (host, status) => {
    const app = await guardedApp(options)
    expect((await app.inject({ url: '/prompt', headers: { host } })).statusCode).toBe(status)
  })

  it('matches an allowed host with the default port where the browser leaves the port out', async () => {
    const app = await guardedApp({ allowedHosts: ['fleet.example.org:80'] })
    expect((await app.inject({ url: '/prompt', headers: { host: 'fleet.example.org' } })).statusCode).toBe(200)
  })

  it('is named in the refusal together with the setting that allows it', async () => {
    const app = await guardedApp()
    const answer = await app.inject({ url: '/prompt', headers: { host: 'gpu-box.local:8000' } })
    expect(answer.json().error).toMatchObject({
      type: 'host_not_allowed',
      message: expect.stringMatching(/gpu-box\.local.*ALLOWED_HOSTS/),
    })
  })

  it('is refused on paths without a route, too', async () => {
    const app = await guardedApp()
    expect((await app.inject({ url: '/nothing', headers: { host: 'evil.example' } })).statusCode).toBe(403)
  })

  it.each([
    ['two of them', 'GET /prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n', 400],
    ['an empty one', 'GET /prompt HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n', 400],
    ['none in HTTP/1.1', 'GET /prompt HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
    ['none in HTTP/1.0, as old probes do', 'GET /prompt HTTP/1.0\r\n\r\n', 200],
    ['none and an Origin', 'GET /prompt HTTP/1.0\r\nOrigin: http://127.0.0.1\r\n\r\n', 403],
  ])('may come raw: %s', async (_name, request, status) => {
    const port = await listen(await guardedApp())
    expect(await rawStatus(port, request)).toBe(status)
  })
})

describe('the origin of a request', () => {
  const host = '127.0.0.1:8000'
  it.each<[name: string, headers: Headers, status: number]>([
    ['none, as programs send', { host }, 200],
    ['the same', { host, origin: 'http://127.0.0.1:8000' }, 200],
    ['the same with TLS in front', { host, origin: 'https://127.0.0.1:8000' }, 200],
    ['the same as python websocket-client sends it', { host: 'localhost:8000', origin: 'http://localhost:8000' }, 200],
    ['IPv6', { host: '[::1]:8000', origin: 'http://[::1]:8000' }, 200],
    ['without a port', { host, origin: 'http://127.0.0.1' }, 200],
    ['a Host without a port', { host: '127.0.0.1', origin: 'http://127.0.0.1:5555' }, 200],
    ['another port', { host, origin: 'http://127.0.0.1:9999' }, 403],
    ['another name for the same machine', { host, origin: 'http://localhost:8000' }, 403],
    ['another site', { host, origin: 'http://evil.example' }, 403],
    ['another site on another address', { host: '192.168.1.20:8000', origin: 'http://evil.example:8000' }, 403],
    ['null', { host, origin: 'null' }, 403],
    ['empty', { host, origin: '' }, 403],
    ['two', { host, origin: 'http://127.0.0.1:8000, http://evil.example' }, 403],
    ['with a user', { host, origin: 'http://127.0.0.1:8000@evil.example' }, 403],
    ['an app at localhost', { host: 'localhost:8000', origin: 'tauri://localhost' }, 403],
    ['an extension', { host, origin: 'chrome-extension://127.0.0.1:8000' }, 403],
    ['a file', { host, origin: 'file://' }, 403],
    ['an allowed one', { host, origin: 'https://app.example.org', 'sec-fetch-site': 'cross-site' }, 200],
    ['an allowed app', { host, origin: 'tauri://app.localhost' }, 200],
  ])('%s', async (_name, headers, status) => {
    const app = await guardedApp({ allowedOrigins: ['https://app.example.org', 'tauri://app.localhost'] })
    expect((await app.inject({ url: '/prompt', headers })).statusCode).toBe(status)
    expect((await app.inject({ method: 'POST', url: '/prompt', headers })).statusCode).toBe(status)
  })

  const guards = recording.situations.find(({ name }) => name === 'guards')?.http ?? []
  it('was recorded from a real ComfyUI', () => expect(guards.length).toBeGreaterThanOrEqual(4))
  it.each(guards.filter(({ request }) => request.headers.origin !== 'null'))(
    'is judged as ComfyUI does: $request.headers.origin',
    async ({ request, response }) => {
      const app = await guardedApp()
      const answer = await app.inject({ url: request.path, headers: { host: '127.0.0.1:8188', ...request.headers } })
      expect(answer.statusCode).toBe(response.status)
    },
  )
})

describe('Fetch-Metadata', () => {
  const visit = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
  it.each<[name: string, method: 'GET' | 'POST', url: string, headers: Headers, status: number]>([
    ['a picture tag elsewhere', 'GET', '/prompt', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }, 403],
    ['in other case', 'GET', '/prompt', { 'sec-fetch-site': 'Cross-Site' }, 403],
    ['a link to the page', 'GET', '/', visit, 200],
    ['a link to the page with a query', 'GET', '/cluster/?a=1', visit, 200],
    ['a link to something else', 'GET', '/prompt', visit, 403],
    ['a frame with the page', 'GET', '/', { ...visit, 'sec-fetch-dest': 'iframe' }, 403],
    ['a script that reads the page', 'GET', '/', { ...visit, 'sec-fetch-mode': 'cors' }, 403],
    ['a form that posts', 'POST', '/prompt', { ...visit, origin: 'http://evil.example' }, 403],
    ['the page itself', 'POST', '/prompt', { 'sec-fetch-site': 'same-origin', origin: 'http://localhost' }, 200],
    ['an address typed in', 'GET', '/prompt', { ...visit, 'sec-fetch-site': 'none' }, 200],
    [
      'another port of the machine',
      'POST',
      '/prompt',
      { 'sec-fetch-site': 'same-site', origin: 'http://localhost:1' },
      403,
    ],
  ])('%s', async (_name, method, url, headers, status) => {
    const app = await guardedApp()
    const answer = await app.inject({ method, url, headers: { host: 'localhost:80', ...headers } })
    expect(answer.statusCode).toBe(status)
  })
})

describe('behind a proxy', () => {
  const forwarded = { 'x-forwarded-host': 'fleet.example.org', 'x-forwarded-proto': 'https' }
  const options = { allowedHosts: ['fleet.example.org:443'] }

  it.each<[name: string, trustProxy: string[], headers: Headers, status: number]>([
    [
      'a trusted one says what the client used',
      ['127.0.0.1'],
      { ...forwarded, origin: 'https://fleet.example.org' },
      200,
    ],
    [
      'the Host of the proxy itself is nobody’s origin',
      ['127.0.0.1'],
      { ...forwarded, origin: 'http://localhost:80' },
      403,
    ],
    ['a name that is not allowed stays so', ['127.0.0.1'], { 'x-forwarded-host': 'evil.example' }, 403],
    ['a rebound name cannot hide behind it', ['127.0.0.1'], { ...forwarded, host: 'evil.example' }, 403],
    ['one that is not trusted says nothing', ['10.0.0.1'], { ...forwarded, origin: 'https://fleet.example.org' }, 403],
  ])('%s', async (_name, trustProxy, headers, status) => {
    const app = await guardedApp(options, { trustProxy })
    const answer = await app.inject({ url: '/prompt', headers: { host: 'localhost:80', ...headers } })
    expect(answer.statusCode).toBe(status)
  })
})

describe('CORS', () => {
  const origin = 'https://app.example.org'
  const preflight = {
    host: 'localhost:8000',
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'content-type, x-api-key',
  }

  it('lets an allowed origin in by its exact name', async () => {
    const app = await guardedApp({ allowedOrigins: [origin] })
    const answer = await app.inject({ method: 'OPTIONS', url: '/prompt', headers: { ...preflight, origin } })
    expect(answer.statusCode).toBe(200)
    expect(answer.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-allow-credentials': 'true',
      'access-control-allow-headers': 'content-type, x-api-key',
      'access-control-allow-methods': expect.stringContaining('POST'),
      vary: 'Origin',
    })
  })

  it('lets an allowed origin read errors', async () => {
    const app = await guardedApp({ allowedOrigins: [origin] })
    const answer = await app.inject({ url: '/nothing', headers: { origin } })
    expect(answer.statusCode).toBe(404)
    expect(answer.headers['access-control-allow-origin']).toBe(origin)
  })

  it.each(['http://evil.example', 'null', 'https://app.example.org.evil.example'])(
    'says nothing to %s',
    async (other) => {
      const app = await guardedApp({ allowedOrigins: [origin] })
      const answer = await app.inject({ method: 'OPTIONS', url: '/prompt', headers: { ...preflight, origin: other } })
      expect(answer.statusCode).toBe(403)
      expect(answer.headers['access-control-allow-origin']).toBeUndefined()
      expect(answer.headers.vary).toBe('Origin')
    },
  )

  it('adds to the Vary of a route', async () => {
    const app = await guardedApp({ allowedOrigins: [origin] })
    expect((await app.inject('/varied')).headers.vary).toBe('Accept-Encoding, Origin')
  })

  it('sets no headers while no origin is allowed', async () => {
    const app = await guardedApp()
    const answer = await app.inject({ url: '/prompt', headers: { host: 'localhost', origin: 'http://localhost' } })
    expect(answer.statusCode).toBe(200)
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control') || name === 'vary')).toEqual(
      [],
    )
  })
})

describe('a websocket upgrade', () => {
  it.each<[name: string, headers: (port: number) => Headers, outcome: string]>([
    ['of a program', () => ({}), 'hello'],
    ['of python websocket-client', (port) => ({ origin: `http://127.0.0.1:${port}` }), 'hello'],
    ['of an allowed origin', () => ({ origin: 'https://app.example.org' }), 'hello'],
    ['of another site', () => ({ origin: 'http://evil.example' }), '403'],
    ['of a sandboxed frame', () => ({ origin: 'null' }), '403'],
    ['of another port', () => ({ origin: 'http://127.0.0.1:1' }), '403'],
    ['to a rebound name', (port) => ({ host: `evil.example:${port}`, origin: `http://evil.example:${port}` }), '403'],
    ['across sites', () => ({ 'sec-fetch-site': 'cross-site' }), '403'],
  ])('%s', async (_name, headers, outcome) => {
    const port = await listen(await guardedApp({ allowedOrigins: ['https://app.example.org'] }))
    expect(await upgrade(port, headers(port))).toBe(outcome)
  })
})

/** The first message, or the status of the refusal. */
function upgrade(port: number, headers: Headers): Promise<string> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, { headers })
  onTestFinished(() => socket.terminate())
  return new Promise((resolve, reject) => {
    socket.on('message', (data) => resolve(String(data)))
    socket.on('unexpected-response', (_request, response) => {
      response.resume()
      resolve(String(response.statusCode))
    })
    socket.on('error', reject)
  })
}

function rawStatus(port: number, request: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(request))
    socket.on('data', (data) => {
      answer += data
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(Number(answer.split(' ')[1])))
  })
}
