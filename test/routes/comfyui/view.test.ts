import { once } from 'node:events'
import { createServer, get, type IncomingMessage, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createComfyClient } from '../../../src/comfyui/client.ts'
import { createEndpoint } from '../../../src/comfyui/endpoint.ts'
import { createFileLocator } from '../../../src/files/locate.ts'
import { viewRoutes } from '../../../src/routes/comfyui/view.ts'
import { answerErrors } from '../../../src/routes/error-handler.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'
import { Worker } from '../../../src/workers/worker.ts'
import { configOf, diskOf } from '../../../src/workers/worker-records.ts'
import { aFile, anOutcome, aPrompt } from '../../support/prompts.ts'
import { type Fleet, picture, startFleet, until } from './read-fleet.ts'

const query = (parameters: Record<string, string>): string => `/view?${new URLSearchParams(parameters)}`

async function bytesOf(fleet: Fleet, url: string): Promise<Buffer> {
  const answer = await fleet.get(url)
  expect(answer.statusCode).toBe(200)
  return answer.rawPayload
}

describe('GET /view refuses as ComfyUI does', () => {
  it.each([
    ['/view', 404],
    ['/view?filename=', 400],
    ['/view?filename=/etc/passwd', 400],
    ['/view?filename=../x', 400],
    ['/view?filename=a%00b', 400],
    ['/view?filename=%20[output]', 400],
    ['/view?filename=x.png&type=bogus', 400],
    ['/view?filename=x.png&subfolder=../..', 403],
    ['/view?filename=x.png&subfolder=a/../../b', 403],
    ['/view?filename=x.png&subfolder=..%5C..', 403],
    ['/view?filename=x.png&subfolder=/etc', 403],
    ['/view?filename=x.png&subfolder=C:%5Cx', 403],
    ['/view?filename=folder/', 404],
    ['/view?filename=nope.png', 404],
    ['/view?filename=nope.png&type=bogus&subfolder=..', 400],
  ])('%s with %i', async (url, status) => {
    const fleet = await startFleet()
    for (const each of [url, `/api${url}`]) {
      const answer = await fleet.get(each)
      expect([answer.statusCode, answer.body, answer.headers['content-type']]).toEqual([status, '', undefined])
      expect(answer.headers['content-length']).toBe('0')
    }
  })
})

describe('GET /view finds', () => {
  async function twoWorkers() {
    const fleet = await startFleet({ workers: [{}, {}] })
    const [first, second] = fleet.workers
    if (!first || !second) throw new Error('two workers')
    first.files.put('output', '', 'same.png', Buffer.from('first'))
    second.files.put('output', '', 'same.png', Buffer.from('second'))
    return { fleet, first, second, tokens: [first, second].map((each) => fleet.workerOf(each).config.token) }
  }
  async function announce(fleet: Fleet, promptId: string, files: ReturnType<typeof aFile>[], owner = 'open') {
    const admitted = await fleet.queue.admit(aPrompt({ promptId, owner }))
    if (admitted.kind !== 'admitted') throw new Error('known already')
    await fleet.queue.finish(admitted.prompt, 0, anOutcome({ files }), { messages: [], log: '' })
  }

  it('a file under its worker’s token, indexed or not, with ComfyUI’s headers', async () => {
    const { fleet, tokens } = await twoWorkers()
    for (const [index, content] of ['first', 'second'].entries()) {
      const answer = await fleet.get(query({ filename: 'same.png', subfolder: tokens[index] ?? '', type: 'output' }))
      expect([answer.statusCode, answer.body]).toEqual([200, content])
      expect(answer.headers).toMatchObject({
        'content-type': 'image/png',
        'content-length': String(content.length),
        'content-disposition': 'filename="same.png"',
        etag: expect.any(String),
        'last-modified': expect.any(String),
        'accept-ranges': 'bytes',
        'x-content-type-options': 'nosniff',
      })
    }
  })

  it('a file in a folder below the token, and one whose name carries folders that do not count', async () => {
    const { fleet, first, tokens } = await twoWorkers()
    first.files.put('output', 'a/b', 'x.png', Buffer.from('deep'))
    const subfolder = `${tokens[0]}/a//./b/`
    expect((await bytesOf(fleet, query({ filename: 'zz/x.png', subfolder }))).toString()).toBe('deep')
    expect((await bytesOf(fleet, query({ filename: 'x.png [output]', subfolder, type: 'input' }))).toString()).toBe(
      'deep',
    )
  })

  it('what a run made, by every way to name it', async () => {
    const { fleet } = await twoWorkers()
    const one = await fleet.run({ prompt: picture('pic', 1) })
    const two = await fleet.run({ prompt: picture('pic', 2) })
    const urls = await Promise.all(
      [one, two].map(async (id) => (await fleet.get(`/history/${id}`)).json()[id].outputs[2].images[0]),
    )
    const [first, second] = await Promise.all(
      urls.map(({ filename, subfolder, type }) => bytesOf(fleet, query({ filename, subfolder, type }))),
    )
    expect(first?.equals(second ?? Buffer.alloc(0))).toBe(false)
    for (const [index, promptId] of [one, two].entries()) {
      const { filename } = urls[index]
      const named = await bytesOf(fleet, query({ filename, subfolder: '', type: 'output', prompt_id: promptId }))
      expect(named.equals([first, second][index] ?? Buffer.alloc(0))).toBe(true)
    }
    // Both workers call theirs pic_00001_.png; without a prefix it is the newest.
    expect(urls.map(({ filename }) => filename)).toEqual(['pic_00001_.png', 'pic_00001_.png'])
    expect((await bytesOf(fleet, query({ filename: 'pic_00001_.png' }))).equals(second ?? Buffer.alloc(0))).toBe(true)
  })

  it('a file by its prompt, though the folder got lost', async () => {
    const { fleet, first, second, tokens } = await twoWorkers()
    first.files.put('output', 'sub', 'x.png', Buffer.from('found'))
    const file = aFile({
      filename: 'x.png',
      subfolder: 'sub',
      workerId: fleet.workerOf(first).id,
      token: tokens[0] ?? '',
    })
    await announce(fleet, 'p', [file])
    expect((await bytesOf(fleet, query({ filename: 'x.png', subfolder: '', prompt_id: 'p' }))).toString()).toBe('found')
    expect((await fleet.get(query({ filename: 'x.png', subfolder: '' }))).statusCode).toBe(404)
    expect(second.ledger.requestsOf('GET /view').length).toBeGreaterThan(0)
  })

  it('the newer picture never under an older one’s name', async () => {
    const { fleet, first, tokens } = await twoWorkers()
    const worker = fleet.workerOf(first)
    const [old = ''] = tokens
    await announce(fleet, 'p1', [aFile({ filename: 'same.png', workerId: worker.id, token: old })])
    first.files.put('output', '', 'kept.png', Buffer.from('kept'))
    await fleet.registry.renewDisk(worker)
    const renewed = worker.config.token
    expect(renewed).toBe(`${old}-2`)
    expect((await bytesOf(fleet, query({ filename: 'same.png', subfolder: old }))).toString()).toBe('first')
    await announce(fleet, 'p2', [aFile({ filename: 'same.png', workerId: worker.id, token: renewed })])
    expect((await fleet.get(query({ filename: 'same.png', subfolder: old }))).statusCode).toBe(404)
    expect((await fleet.get(query({ filename: 'same.png', prompt_id: 'p1' }))).statusCode).toBe(404)
    expect((await bytesOf(fleet, query({ filename: 'same.png', subfolder: renewed }))).toString()).toBe('first')
    expect((await bytesOf(fleet, query({ filename: 'kept.png', subfolder: old }))).toString()).toBe('kept')
    expect((await fleet.get(query({ filename: 'same.png', subfolder: `${old}-9` }))).statusCode).toBe(404)
  })

  it('nothing of another owner', async () => {
    const { fleet, first, tokens } = await twoWorkers()
    const [token = ''] = tokens
    const workerId = fleet.workerOf(first).id
    await announce(fleet, 'p1', [aFile({ filename: 'same.png', workerId, token })], 'bob')
    const url = query({ filename: 'same.png', subfolder: token })
    expect((await fleet.get(url)).statusCode).toBe(404)
    expect((await fleet.get(url, { 'x-owner': 'bob' })).statusCode).toBe(200)
    // A cached node announces it to another, too; then both have it.
    await announce(fleet, 'p2', [aFile({ filename: 'same.png', workerId, token })], 'ann')
    expect((await fleet.get(url, { 'x-owner': 'ann' })).statusCode).toBe(200)
    expect((await fleet.get(url, { 'x-owner': 'bob' })).statusCode).toBe(200)
  })

  it('an input on whichever worker has it, and asks no worker that is down', async () => {
    const { fleet, first, second } = await twoWorkers()
    second.files.put('input', '', 'u.png', Buffer.from('upload'))
    expect((await bytesOf(fleet, query({ filename: 'u.png', type: 'input' }))).toString()).toBe('upload')
    await first.kill()
    await until('it is noticed', () => fleet.workerOf(first).state.kind !== 'healthy')
    expect((await bytesOf(fleet, query({ filename: 'u.png', type: 'input' }))).toString()).toBe('upload')
    await second.kill()
    await until('it is noticed', () => fleet.workerOf(second).state.kind !== 'healthy')
    const answer = await fleet.get(query({ filename: 'u.png', type: 'input' }))
    expect([answer.statusCode, answer.json().error.type]).toEqual([503, 'no_worker'])
  })

  it('a removed worker’s files no more', async () => {
    const { fleet, first, tokens } = await twoWorkers()
    const [token = ''] = tokens
    await announce(fleet, 'p', [aFile({ filename: 'same.png', workerId: fleet.workerOf(first).id, token })])
    await fleet.registry.remove(fleet.workerOf(first).id)
    expect((await fleet.get(query({ filename: 'same.png', subfolder: token }))).statusCode).toBe(404)
    expect((await fleet.get(query({ filename: 'same.png', prompt_id: 'p' }))).statusCode).toBe(404)
  })
})

describe('GET /view passes on', () => {
  it('ranges, conditions and HEAD', async () => {
    const fleet = await startFleet()
    fleet.workers[0]?.files.put('output', '', 'x.png', Buffer.from('0123456789'))
    const url = query({ filename: 'x.png' })
    const part = await fleet.get(url, { range: 'bytes=2-4' })
    expect([part.statusCode, part.body, part.headers['content-range']]).toEqual([206, '234', 'bytes 2-4/10'])
    expect((await fleet.get(url, { range: 'bytes=99-' })).statusCode).toBe(416)
    const { headers } = await fleet.get(url)
    const same = await fleet.get(url, { 'if-none-match': String(headers.etag) })
    expect([same.statusCode, same.body, same.headers.etag]).toEqual([304, '', headers.etag])
    const head = await fleet.app.inject({ method: 'HEAD', url })
    expect([head.statusCode, head.body, head.headers['content-length']]).toEqual([200, '', '10'])
    expect(fleet.workers[0]?.ledger.requests.filter(({ method }) => method === 'HEAD')).toHaveLength(1)
  })

  it('previews and channels, from the worker that has the file', async () => {
    const fleet = await startFleet({ workers: [{}, {}] })
    const promptId = await fleet.run({ prompt: picture() })
    const { filename, subfolder } = (await fleet.get(`/history/${promptId}`)).json()[promptId].outputs[2].images[0]
    const preview = await fleet.get(query({ filename, subfolder, preview: 'webp;50' }))
    expect([preview.statusCode, preview.headers['content-type']]).toEqual([200, 'image/webp'])
    const alpha = await fleet.get(query({ filename, subfolder, channel: 'a' }))
    expect([alpha.statusCode, alpha.headers['content-type']]).toEqual([200, 'image/png'])
  })

  it('none of what is the client’s own, and all that the operator set', async () => {
    const fleet = await startFleet()
    fleet.workers[0]?.files.put('output', '', 'x.png', Buffer.from('x'))
    await fleet.get(`${query({ filename: 'x.png' })}&token=secret&rand=1`, {
      authorization: 'Bearer x',
      cookie: 'a=b',
      origin: 'http://evil',
      'sec-fetch-site': 'cross-site',
      'sec-fetch-dest': 'image',
      'x-forwarded-for': '1.2.3.4',
      'x-operator': 'client',
      connection: 'x-operator',
    })
    const [request] = fleet.workers[0]?.ledger.requestsOf('GET /view') ?? []
    expect(request?.path).toBe('/view?filename=x.png&subfolder=&type=output')
    expect(request?.headers).toMatchObject({ 'x-operator': 'set', 'sec-fetch-dest': 'image', host: expect.any(String) })
    for (const name of ['authorization', 'cookie', 'origin', 'sec-fetch-site', 'x-forwarded-for']) {
      expect(request?.headers).not.toHaveProperty(name)
    }
  })
})

describe('GET /view from a worker that fails', () => {
  it.each([
    [{ kind: 'reset-before' }, 502, 'worker_unreachable'],
    [{ kind: 'not-http' }, 502, 'worker_unreachable'],
    [{ kind: 'two-lengths' }, 502, 'worker_unreachable'],
    [{ kind: 'hang' }, 504, 'worker_timeout'],
    [{ kind: 'status', status: 401 }, 502, 'worker_unreachable'],
    [{ kind: 'status', status: 302 }, 502, 'worker_unreachable'],
    [{ kind: 'html', status: 502 }, 502, 'worker_unreachable'],
  ] as const)('%j is %i', async (fault, status, type) => {
    const fleet = await startFleet({ requestTimeoutMs: 300 })
    const [worker] = fleet.workers
    worker?.files.put('output', '', 'x.png', Buffer.from('x'))
    worker?.faults.set('GET /view', fault)
    const subfolder = fleet.workerOf(worker).config.token
    const answer = await fleet.get(query({ filename: 'x.png', subfolder }))
    expect([answer.statusCode, answer.json().error.type]).toEqual([status, type])
    // Not only when the worker is named.
    expect((await fleet.get(query({ filename: 'x.png' }))).statusCode).toBe(status)
  })

  it('is unreachable when nothing listens there', async () => {
    const fleet = await startFleet()
    const [worker] = fleet.workers
    const subfolder = fleet.workerOf(worker).config.token
    await worker?.kill()
    const answer = await fleet.get(query({ filename: 'x.png', subfolder }))
    expect([answer.statusCode, answer.json().error.type]).toEqual([502, 'worker_unreachable'])
  })

  it('turns a page into a download, whatever the worker calls it', async () => {
    const fleet = await startFleet()
    fleet.workers[0]?.faults.set('GET /view', { kind: 'html' })
    const answer = await fleet.get(query({ filename: 'x.html' }))
    expect(answer.headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment; filename="x.html"; filename*=UTF-8\'\'x.html',
      'content-security-policy': "sandbox; default-src 'none'",
    })
  })
})

describe('the stream of GET /view', () => {
  /** The route in front of one worker that answers as the listener does; answers the address to ask. */
  async function behind(listener: RequestListener): Promise<string> {
    const server = createServer(listener).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const client = createComfyClient({
      endpoint: createEndpoint(url),
      connectTimeoutMs: 1_000,
      requestTimeoutMs: 2_000,
    })
    const config = configOf({ url, weight: 1, slots: 1, tags: [], headers: {}, metadata: {} }, { isConfigured: true })
    const worker = new Worker(config, client, { prefetch: 1 })
    const store = createMemoryStore()
    const app = Fastify()
    app.decorateRequest('identity')
    app.addHook('onRequest', async (request) => {
      request.identity = { owner: 'open', caller: 'a' }
    })
    answerErrors(app, { maxBodyBytes: 1_000 })
    const locate = createFileLocator({
      store: store.prompts,
      diskOf,
      workerOfToken: () => ({ workerId: worker.id, isCurrent: true }),
    })
    await app.register(viewRoutes({ locate, registry: { get: () => worker, list: () => [worker] } }))
    await app.listen({ port: 0, host: '127.0.0.1' })
    onTestFinished(async () => {
      server.closeAllConnections()
      server.close()
      await client.close()
      await app.close()
      await store.close()
    })
    const { port } = app.server.address() as AddressInfo
    return `http://127.0.0.1:${port}/view?filename=x.png&subfolder=${config.token}`
  }
  const ask = async (url: string): Promise<IncomingMessage> => {
    const [response] = (await once(get(url, { agent: false }), 'response')) as [IncomingMessage]
    return response
  }
  const MEGABYTE = Buffer.alloc(1024 * 1024, 'x')

  it('brings many megabytes whole', async () => {
    const url = await behind((_request, response) => {
      response.writeHead(200, { 'content-type': 'image/png', 'content-length': 20 * MEGABYTE.length })
      for (let at = 0; at < 20; at++) response.write(MEGABYTE)
      response.end()
    })
    const response = await ask(url)
    let size = 0
    for await (const chunk of response) size += chunk.length
    expect(size).toBe(20 * MEGABYTE.length)
  })

  it('takes from the worker only what the client takes', async () => {
    let sent = 0
    let isFull = false
    const url = await behind((_request, response) => {
      response.writeHead(200, { 'content-type': 'video/mp4' })
      const more = (): void => {
        while (!response.destroyed) {
          sent += MEGABYTE.length
          if (!response.write(MEGABYTE)) break
        }
        isFull = true
        response.once('drain', () => {
          isFull = false
          more()
        })
      }
      more()
    })
    const response = await ask(url)
    response.pause()
    let before = -1
    await until('the worker has to wait', () => {
      const isStill = isFull && sent === before
      before = sent
      return isStill
    })
    expect(sent).toBeLessThan(40 * MEGABYTE.length)
    response.destroy()
  })

  it('is cut when the worker breaks off, and never looks whole', async () => {
    const url = await behind((_request, response) => {
      response.writeHead(200, { 'content-type': 'image/png' })
      response.write(MEGABYTE)
      setImmediate(() => response.socket?.resetAndDestroy())
    })
    const response = await ask(url)
    await expect(
      (async () => {
        for await (const _chunk of response);
      })(),
    ).rejects.toThrow()
    expect(response.complete).toBe(false)
  })

  it('is 502 when the worker breaks off before the first byte', async () => {
    const url = await behind((_request, response) => {
      response.writeHead(200, { 'content-type': 'image/png', 'content-length': 10 })
      response.flushHeaders()
      setTimeout(() => response.socket?.resetAndDestroy(), 20)
    })
    const response = await ask(url)
    expect([response.statusCode, response.headers['content-type']]).toEqual([502, 'application/json; charset=utf-8'])
    response.resume()
  })

  it.each(['before', 'after'])('ends at the worker when the client goes %s the first byte', async (when) => {
    let asked = (): void => undefined
    let left = (): void => undefined
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve
    })
    const hasLeft = new Promise<void>((resolve) => {
      left = resolve
    })
    const url = await behind((_request, response) => {
      response.on('close', left)
      if (when === 'after') response.writeHead(200, { 'content-type': 'image/png' }).write(MEGABYTE)
      asked()
    })
    const request = get(url, { agent: false })
    request.on('error', () => undefined)
    await isAsked
    if (when === 'after') await once(request, 'response')
    request.destroy()
    await hasLeft
  })

  it('keeps a file’s name that is not ASCII', async () => {
    const url = await behind((_request, response) => {
      response.writeHead(200, {
        'content-type': 'image/png',
        'content-disposition': Buffer.from('filename="日.png"').toString('latin1'),
      })
      response.end('x')
    })
    const response = await ask(url)
    expect(Buffer.from(response.headers['content-disposition'] ?? '', 'latin1').toString()).toBe('filename="日.png"')
    response.resume()
  })
})
