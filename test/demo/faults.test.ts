import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Fault } from '../../src/demo/faults.ts'
import { createSimulatedWorker, type SimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { imagePrompt } from './prompts.ts'
import { Listener, post, send, until } from './raw-client.ts'

let worker: SimulatedWorker

beforeEach(async () => {
  worker = await createSimulatedWorker()
})

afterEach(() => worker.close())

const submit = () => post(worker.url, '/prompt', { prompt: imagePrompt(), prompt_id: 'p' })

describe('faults of a simulated worker', () => {
  it.each<[Fault, number, RegExp]>([
    [{ kind: 'status', status: 502, body: 'no' }, 502, /^no$/],
    [{ kind: 'html' }, 200, /<html>/],
    [{ kind: 'garbage' }, 200, /^\{"prompt_id": "cut of$/],
    [{ kind: 'empty' }, 200, /^$/],
    [{ kind: 'empty-object' }, 200, /^\{\}$/],
    [{ kind: 'huge', bytes: 300_000 }, 200, /^\{"error": "\s+"\}$/],
  ])('answers $kind without running the prompt', async (fault, status, body) => {
    worker.faults.set('POST /prompt', fault)
    const answer = await submit()
    expect(answer.status).toBe(status)
    expect(answer.text).toMatch(body)
    if (fault.kind === 'huge') expect(answer.body.length).toBe(300_000)
    expect([worker.queueRemaining, worker.ledger.runs.length]).toEqual([0, 0])
  })

  it.each<Fault>([{ kind: 'not-http' }, { kind: 'two-lengths' }, { kind: 'truncated' }, { kind: 'reset-before' }])(
    'breaks the connection with $kind and runs nothing',
    async (fault) => {
      worker.faults.set('POST /prompt', fault)
      await expect(submit()).rejects.toThrow()
      expect(worker.ledger.requestsOf('POST /prompt')).toHaveLength(1)
      expect(worker.ledger.runs).toHaveLength(0)
    },
  )

  it('runs the prompt and then resets the connection', async () => {
    worker.faults.set('POST /prompt', { kind: 'reset-after' })
    await expect(submit()).rejects.toMatchObject({ code: 'ECONNRESET' })
    await until(() => worker.ledger.runsOf('p').at(0)?.outcome === 'success')
  })

  it.each([
    ['hang', 0],
    ['hang-after', 1],
  ] as const)('never answers with %s', async (kind, runs) => {
    worker.faults.set('POST /prompt', { kind })
    const abort = new AbortController()
    const body = JSON.stringify({ prompt: imagePrompt(), prompt_id: 'p' })
    const pending = send(worker.url, { method: 'POST', path: '/prompt', body, signal: abort.signal })
    const outcome = pending.then(
      () => 'answered',
      () => 'aborted',
    )
    await until(() => worker.ledger.requestsOf('POST /prompt').length === 1)
    if (runs > 0) await until(() => worker.ledger.runsOf('p').at(0)?.outcome === 'success')
    abort.abort()
    expect(await outcome).toBe('aborted')
    expect(worker.ledger.runs).toHaveLength(runs)
  })

  it('runs the prompt under its id and answers with another one', async () => {
    worker.faults.set('POST /prompt', { kind: 'wrong-id', promptId: 'other' }, { times: 1 })
    expect(JSON.parse((await submit()).text).prompt_id).toBe('other')
    await until(() => worker.ledger.runsOf('p').at(0)?.outcome === 'success')
    worker.faults.set('GET /history/*', { kind: 'wrong-id', promptId: 'other' })
    const history = await send(worker.url, { path: '/api/history/p' })
    expect(Object.keys(JSON.parse(history.text))).toEqual(['other'])
  })

  it('sends an answer byte by byte, its head included', async () => {
    worker.faults.set('GET /prompt', { kind: 'slow', msPerByte: 1 })
    const socket = connect(worker.port, '127.0.0.1')
    const sizes: number[] = []
    socket.on('data', (data) => sizes.push(data.length))
    socket.write('GET /prompt HTTP/1.1\r\nhost: x\r\n\r\n')
    await until(() => sizes.length > 5, 'some bytes')
    expect(sizes[0]).toBe(1)
    socket.destroy()
    expect(JSON.parse((await send(worker.url, { path: '/prompt' })).text)).toEqual({
      exec_info: { queue_remaining: 0 },
    })
  })

  it('keeps an endless answer within bounds when nobody reads it', async () => {
    worker.faults.set('GET /queue', { kind: 'huge' })
    const before = process.memoryUsage().rss
    const socket = connect(worker.port, '127.0.0.1')
    socket.pause()
    socket.write('GET /queue HTTP/1.1\r\nhost: x\r\n\r\n')
    await until(() => worker.ledger.requests.length === 1)
    for (let index = 0; index < 20; index += 1) await send(worker.url, { path: '/prompt' })
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024)
    socket.destroy()
  })

  it('applies as often as told, then no more', async () => {
    worker.faults.set('GET /queue', { kind: 'status', status: 500 }, { times: 2 })
    const statuses: number[] = []
    for (let index = 0; index < 3; index += 1) statuses.push((await send(worker.url, { path: '/api/queue' })).status)
    expect(statuses).toEqual([500, 500, 200])
  })

  it('applies to one route, to a prefix or to all, until cleared', async () => {
    worker.faults.set('GET /history/*', { kind: 'status', status: 500 })
    expect((await send(worker.url, { path: '/history/x' })).status).toBe(500)
    expect((await send(worker.url, { path: '/history' })).status).toBe(200)
    worker.faults.set('*', { kind: 'status', status: 503 })
    expect((await send(worker.url, { path: '/queue' })).status).toBe(503)
    worker.faults.clear()
    expect((await send(worker.url, { path: '/history/x' })).status).toBe(200)
  })

  it('refuses a websocket', async () => {
    worker.faults.set('GET /ws', { kind: 'reset-before' }, { times: 1 })
    const refused = new Listener(worker.url, 'A')
    await until(() => refused.ws.readyState === refused.ws.CLOSED)
    expect(refused.seen).toEqual([])
    const taken = await Listener.open(worker.url, 'A')
    expect(taken.has('status')).toBe(true)
    await taken.close()
  })
})
