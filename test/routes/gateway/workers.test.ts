import { randomBytes } from 'node:crypto'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { pino } from 'pino'
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { createSealer } from '../../../src/auth/sealer.ts'
import { createSimulatedWorker, type SimulatedWorkerOptions } from '../../../src/demo/simulated-worker.ts'
import type { Prompt } from '../../../src/queue/prompt.ts'
import { workerRoutes } from '../../../src/routes/gateway/workers.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'
import { WorkerCatalogue } from '../../../src/workers/catalogue.ts'
import { WorkerRegistry } from '../../../src/workers/registry.ts'
import { createWorkerRecords } from '../../../src/workers/worker-records.ts'
import { selfSigned } from '../../support/self-signed.ts'
import { plainApp } from './plain-app.ts'

const now = (): number => performance.now()
const SECRETS = ['s3cret-password', 's3cret-header']

let app: FastifyInstance
let registry: WorkerRegistry
let prompts: Map<string, Pick<Prompt, 'record'>>

beforeEach(async () => {
  const store = createMemoryStore()
  const catalogue = new WorkerCatalogue({ now })
  prompts = new Map()
  registry = new WorkerRegistry({
    records: createWorkerRecords(store.records, createSealer(randomBytes(32))),
    catalogue,
    settings: {
      defaultAuth: undefined,
      sharesDefaultAuth: true,
      health: {
        fall: 3,
        rise: 2,
        suspectAfterMs: 15_000,
        refusedGiveUpMs: 5_000,
        giveUpMs: 120_000,
        tripAfter: 3,
        tripMs: 10_000,
        tripMaxMs: 120_000,
      },
      checkIntervalMs: 60_000,
      checkTimeoutMs: 2_000,
      reconcileIntervalMs: 60_000,
      connectTimeoutMs: 500,
      requestTimeoutMs: 2_000,
      pingIntervalMs: 20_000,
      prefetch: 1,
    },
    log: pino({ level: 'silent' }),
    now,
  })
  const queue = { get: (promptId: string) => prompts.get(promptId) as Prompt | undefined } // Only its record is read.
  app = await plainApp(workerRoutes({ registry, queue, now, clocks: { connectTimeoutMs: 500, timeoutMs: 500 } }))
  return () => registry.close()
})

describe('adding a worker', () => {
  it('reaches it, and shows it without its secrets', async () => {
    const worker = await aWorker({ auth: { username: 'ann', password: 's3cret-password' } })
    const answer = await call('POST', '/api/workers', {
      url: `${worker.url}/`,
      name: '<b>one</b>',
      weight: 2,
      slots: 3,
      tags: ['fast'],
      headers: { 'x-token': 's3cret-header' },
      auth_username: 'ann',
      auth_password: 's3cret-password',
      metadata: { rack: 7, deep: { list: [1.5, null] } },
    })
    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toMatchObject({
      worker_id: expect.stringMatching(/^w-/),
      url: worker.url,
      name: '<b>one</b>',
      weight: 2,
      slots: 3,
      tags: ['fast'],
      enabled: true,
      draining: false,
      auth_username: 'ann',
      auth_has_password: true,
      header_names: ['x-token'],
      has_ca: false,
      metadata: { rack: 7, deep: { list: [1.5, null] } },
    })
    const list = await call('GET', '/api/workers')
    for (const text of [answer.body, list.body]) for (const secret of SECRETS) expect(text).not.toContain(secret)
    expect(list.json().workers).toHaveLength(1)
  })

  it('takes user and password from the URL, and leaves them out of it', async () => {
    const worker = await aWorker({ auth: { username: 'ann', password: 's3cret-password' } })
    const url = worker.url.replace('http://', 'http://ann:s3cret-password@')
    const answer = await call('POST', '/api/workers', { url })
    expect(answer.json()).toMatchObject({ url: worker.url, auth_username: 'ann', auth_has_password: true })
    expect(answer.body).not.toContain('s3cret')
  })

  it('takes texts for numbers and null for nothing, as forms send them', async () => {
    const worker = await aWorker()
    const body = { url: worker.url, weight: '2.5', skip_health_check: 'false', name: null, auth_username: null }
    const answer = await call('POST', '/api/workers', body)
    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toMatchObject({ weight: 2.5, auth_username: null, name: new URL(worker.url).host })
  })

  it('reads JSON whatever the Content-Type says', async () => {
    const worker = await aWorker()
    const payload = JSON.stringify({ url: worker.url })
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', undefined]) {
      const headers = type === undefined ? {} : { 'content-type': type }
      const answer = await app.inject({ method: 'POST', url: '/api/workers', headers, payload })
      expect([200, 409]).toContain(answer.statusCode)
    }
    expect(registry.list()).toHaveLength(1)
  })

  it('does not reach it with skip_health_check, and can leave it disabled', async () => {
    const port = await freePort()
    const body = { url: `http://127.0.0.1:${port}`, skip_health_check: true, enabled: false }
    const answer = await call('POST', '/api/workers', body)
    expect(answer.json()).toMatchObject({ enabled: false, healthy: false, available: false })
  })

  it('answers 409 for one that is there, and to one of two at the same moment', async () => {
    const worker = await aWorker()
    const both = await Promise.all([0, 1].map(() => call('POST', '/api/workers', { url: worker.url })))
    expect(both.map(({ statusCode }) => statusCode).sort()).toEqual([200, 409])
    const again = await call('POST', '/api/workers', { url: worker.url })
    expect(again.statusCode).toBe(409)
    expect(again.json().error.type).toBe('worker_exists')
    expect(registry.list()).toHaveLength(1)
  })

  it('gives weight and slots when they are not said', async () => {
    const worker = await aWorker()
    expect((await call('POST', '/api/workers', { url: worker.url })).json()).toMatchObject({ weight: 1, slots: 1 })
  })

  describe('says in one sentence why it cannot be', () => {
    it.each<[name: string, url: () => string | Promise<string>, detail: RegExp]>([
      ['no scheme', () => 'gpu1:8188', /must start with http/],
      ['another scheme', () => 'file:///etc/passwd', /must start with http/],
      ['gopher', () => 'gopher://127.0.0.1:70/', /must start with http/],
      ['no URL', () => 'http://', /not a valid URL/],
      [
        'nothing there',
        async () => `http://127.0.0.1:${await freePort()}`,
        /Nothing listens at 127\.0\.0\.1:\d+: .*refused/,
      ],
      ['an unknown name', () => 'http://no-such-name.invalid:8188', /name no-such-name\.invalid cannot be resolved/],
      ['silence', () => tcp(() => {}), /did not answer within 0\.5 s/],
      ['a cut', () => tcp((socket) => socket.destroy()), /closed the connection.*https/],
      ['another program', () => http((_, res) => res.end('<html>')), /is not ComfyUI/],
      ['a page that is not there', () => http((_, res) => res.writeHead(404).end()), /is not ComfyUI/],
      [
        'a server error',
        () => http((_, res) => res.writeHead(500).end()),
        /is not ComfyUI \(GET \/prompt answered 500\)/,
      ],
      ['not HTTP', () => tcp((socket) => socket.end('SSH-2.0-OpenSSH\r\n')), /is not ComfyUI/],
      [
        'a redirect to the metadata of a cloud',
        () => http((_, res) => res.writeHead(302, { location: 'http://169.254.169.254/prompt' }).end()),
        /redirect \(302\), which is not followed/,
      ],
      ['a certificate of its own', () => https(), /certificate of 127\.0\.0\.1:\d+ is not trusted .*ca/],
      [
        'TLS to a port without',
        async () => (await http((_, res) => res.end())).replace('http', 'https'),
        /does not speak TLS/,
      ],
    ])('%s', async (_name, url, detail) => {
      const answer = await call('POST', '/api/workers', { url: await url() })
      expect(answer.statusCode).toBe(422)
      expect(answer.json()).toEqual({ detail: expect.stringMatching(detail) })
      expect(registry.list()).toHaveLength(0)
    })

    it('no password, or a wrong one', async () => {
      const { url } = await aWorker({ auth: { username: 'ann', password: 'right' } })
      const none = await call('POST', '/api/workers', { url })
      expect(none.json().detail).toMatch(/asks for a user and a password \(401\); give auth_username/)
      const wrong = await call('POST', '/api/workers', { url, auth_username: 'ann', auth_password: 'wrong' })
      expect(wrong.json().detail).toMatch(/does not accept this user and password/)
      expect(wrong.body).not.toContain('wrong')
    })

    it.each<[name: string, body: object | string, status: number, sentence: RegExp]>([
      ['no url', {}, 422, /required property 'url'/],
      ['no body', '', 422, /required property 'url'/],
      ['a list', [], 422, /must be object/],
      ['a weight of 0', { url: 'http://a', weight: 0 }, 422, /^weight must be > 0/],
      ['an empty name', { url: 'http://a', name: '' }, 422, /^name must/],
      ['a header of the connection', { url: 'http://a', headers: { Host: 'b' } }, 422, /headers\.Host cannot be set/],
      ['a line break in a header', { url: 'http://a', headers: { 'x-a': 'b\r\nc: d' } }, 422, /header cannot carry/],
      ['a ca that is none', { url: 'https://a', ca: 'nonsense' }, 422, /PEM/],
      ['a password for nobody', { url: 'http://a', auth_password: 'x' }, 422, /without auth_username/],
      ['a colon in the user', { url: 'http://a', auth_username: 'a:b' }, 422, /colon/],
      ['deep metadata', `{"url":"http://a","metadata":{"a":${'['.repeat(9_000)}${']'.repeat(9_000)}}}`, 422, /nested/],
      ['broken JSON', '{"url":', 400, /not valid JSON/],
      ['a prototype', '{"url":"http://a","__proto__":{"skip_health_check":true}}', 400, /not valid JSON/],
    ])('%s', async (_name, body, status, sentence) => {
      const answer = await call('POST', '/api/workers', body)
      expect(answer.statusCode).toBe(status)
      const { detail, error } = answer.json()
      expect(detail ?? error.message).toMatch(sentence)
      expect(registry.list()).toHaveLength(0)
    })

    it('a body of more than 1 MiB', async () => {
      const answer = await call('POST', '/api/workers', { url: 'http://a', metadata: { a: 'x'.repeat(1024 * 1024) } })
      expect(answer.statusCode).toBe(413)
    })
  })

  describe('never calls a metadata or link-local address', () => {
    it.each([
      'http://169.254.169.254',
      'http://169.254.0.1:8188/path',
      'http://2852039166',
      'http://0xa9fea9fe/',
      'http://0251.0376.0251.0376',
      'http://[::ffff:169.254.169.254]:8188',
      'http://[fe80::1]:8188',
      'http://[fd00:ec2::254]',
      'http://[64:ff9b::a9fe:a9fe]',
      'http://100.100.100.200',
    ])('%s', async (url) => {
      for (const skip_health_check of [false, true]) {
        const answer = await call('POST', '/api/workers', { url, skip_health_check })
        expect(answer.statusCode).toBe(422)
        expect(answer.json().detail).toMatch(/metadata or link-local/)
      }
      expect(registry.list()).toHaveLength(0)
    })
  })

  it('trusts a private certificate authority that is given', async () => {
    const answer = await call('POST', '/api/workers', { url: await https(), ca: selfSigned.cert })
    expect(answer.json()).toMatchObject({ has_ca: true })
    expect(answer.body).not.toContain('CERTIFICATE')
  })
})

describe('a worker that is there', () => {
  const add = async (body: object = {}, options: SimulatedWorkerOptions = {}): Promise<string> => {
    const worker = await aWorker(options)
    return (await call('POST', '/api/workers', { url: worker.url, ...body })).json().worker_id
  }

  it('is listed from state, with what is in its queue, though it does not answer', async () => {
    const worker = await aWorker()
    const id = (await call('POST', '/api/workers', { url: worker.url })).json().worker_id
    await until(() => registry.get(id)?.state.kind === 'healthy')
    worker.freeze()
    const known = registry.get(id)
    for (const [promptId, owner] of [
      ['mine', 'open'],
      ['hers', 'key'],
      ['waits', 'open'],
    ] as const) {
      const slot = known?.reserve(promptId, promptId)
      if (slot && promptId !== 'waits') slot.phase = 'running'
      prompts.set(promptId, { record: { admitted: true, owner } as Prompt['record'] }) // Nothing else is read.
    }
    if (known) known.foreignPending = 2
    const before = worker.ledger.requests.length
    const [view] = (await call('GET', '/api/workers')).json().workers
    expect(view).toMatchObject({ state: 'healthy', healthy: true, available: false, reason: null, since: null })
    expect(view).toMatchObject({ queue_running: 2, queue_pending: 3, running: ['mine'] })
    expect(worker.ledger.requests.length).toBe(before)
  })

  it('says since when and why it is not healthy', async () => {
    const id = await add()
    const worker = registry.get(id)
    if (worker) worker.state = { kind: 'down', since: now() - 60_000, reason: 'connect ECONNREFUSED' }
    const [view] = (await call('GET', '/api/workers')).json().workers
    expect(view).toMatchObject({ state: 'down', healthy: false, available: false, reason: 'connect ECONNREFUSED' })
    expect(Math.abs(Date.now() - 60_000 - view.since)).toBeLessThan(5_000)
  })

  it('changes what is sent and nothing else', async () => {
    const id = await add({ tags: ['a'], slots: 2, metadata: { b: 1 } })
    const answer = await call('PATCH', `/api/workers/${id}`, { name: 'new', weight: 5, enabled: false })
    expect(answer.json()).toMatchObject({ name: 'new', weight: 5, enabled: false, tags: ['a'], metadata: { b: 1 } })
    expect((await call('PATCH', `/api/workers/${id}`, {})).json()).toEqual(answer.json())
  })

  it('keeps its password when only the user changes, and loses both by null or empty', async () => {
    const id = await add({ auth_username: 'ann', auth_password: 's3cret-password' })
    const renamed = await call('PATCH', `/api/workers/${id}`, { auth_username: 'bob' })
    expect(renamed.json()).toMatchObject({ auth_username: 'bob', auth_has_password: true })
    expect(registry.get(id)?.config.auth).toEqual({ username: 'bob', password: 's3cret-password' })
    await call('PATCH', `/api/workers/${id}`, { auth_password: 'other' })
    expect(registry.get(id)?.config.auth).toEqual({ username: 'bob', password: 'other' })
    const without = await call('PATCH', `/api/workers/${id}`, { auth_username: null })
    expect(without.json()).toMatchObject({ auth_username: null, auth_has_password: false })
    expect(registry.get(id)?.config.auth).toBeUndefined()
  })

  it('keeps its url, so that its secrets go nowhere else', async () => {
    const id = await add()
    const { url } = registry.get(id)?.config ?? {}
    expect((await call('PATCH', `/api/workers/${id}`, { url: `${url}/`, name: 'same' })).statusCode).toBe(200)
    const moved = await call('PATCH', `/api/workers/${id}`, { url: 'http://evil.example' })
    expect(moved.statusCode).toBe(422)
    expect(registry.get(id)?.config.url).toBe(url)
  })

  it('drains without a body, and is taken back with drain false', async () => {
    const id = await add()
    expect((await call('POST', `/api/workers/${id}/drain`)).json()).toMatchObject({ draining: true, available: false })
    expect((await call('POST', `/api/workers/${id}/drain`, { drain: false })).json().draining).toBe(false)
    expect((await call('POST', `/api/workers/${id}/drain`, { drain: true })).json().draining).toBe(true)
    expect((await call('POST', `/api/workers/${id}/drain`, { drain: 'perhaps' })).statusCode).toBe(422)
    expect((await call('POST', `/api/workers/${id}/drain`, '{')).statusCode).toBe(400)
  })

  it('is checked when asked', async () => {
    const worker = await aWorker()
    const id = (await call('POST', '/api/workers', { url: worker.url })).json().worker_id
    expect((await call('POST', `/api/workers/${id}/health`)).json().check).toEqual({ healthy: true, reason: null })
    await worker.kill()
    const { check } = (await call('POST', `/api/workers/${id}/health`)).json()
    expect(check).toEqual({ healthy: false, reason: expect.any(String) })
  })

  it('is removed, and can be added again', async () => {
    const worker = await aWorker()
    const id = (await call('POST', '/api/workers', { url: worker.url })).json().worker_id
    expect((await call('DELETE', `/api/workers/${id}`)).json()).toEqual({ worker_id: id, removed: true })
    expect((await call('GET', '/api/workers')).json()).toEqual({ workers: [] })
    expect((await call('POST', '/api/workers', { url: worker.url })).json().worker_id).toBe(id)
  })
})

it.each<[method: 'POST' | 'PATCH' | 'DELETE', path: string]>([
  ['PATCH', ''],
  ['DELETE', ''],
  ['POST', '/health'],
  ['POST', '/drain'],
])('%s of an unknown worker%s is 404 in our own error shape', async (method, path) => {
  const answer = await call(method, `/api/workers/w-none${path}`)
  expect(answer.statusCode).toBe(404)
  expect(answer.json()).toMatchObject({ error: { type: 'worker_not_found' }, node_errors: {} })
})

function call(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, body?: object | string) {
  const options: InjectOptions = { method, url }
  if (body !== undefined) {
    options.payload = typeof body === 'string' ? body : JSON.stringify(body)
    options.headers = { 'content-type': 'application/json' }
  }
  return app.inject(options)
}

async function aWorker(options: SimulatedWorkerOptions = {}) {
  const worker = await createSimulatedWorker(options)
  onTestFinished(() => worker.close())
  return worker
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 5_000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error('it did not come true within 5 s')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

async function portOf(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

async function freePort(): Promise<number> {
  const server = createTcpServer()
  const port = await portOf(server)
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function tcp(onSocket: (socket: import('node:net').Socket) => void): Promise<string> {
  const sockets = new Set<import('node:net').Socket>()
  const server = createTcpServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    onSocket(socket)
  })
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `http://127.0.0.1:${await portOf(server)}`
}

async function http(listener: RequestListener): Promise<string> {
  const server = createHttpServer(listener)
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${await portOf(server)}`
}

async function https(): Promise<string> {
  const server = createHttpsServer(selfSigned, (_request, response) =>
    response.end('{"exec_info": {"queue_remaining": 0}}'),
  )
  server.on('tlsClientError', () => {})
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `https://127.0.0.1:${await portOf(server)}`
}
