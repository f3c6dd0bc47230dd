import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { createPromptEvents } from '../../../src/queue/events.ts'
import { PromptQueue } from '../../../src/queue/queue.ts'
import { QueueListing } from '../../../src/queue/queue-listing.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'
import { aPrompt } from '../../support/prompts.ts'
import { nap, picture, startFleet, until } from './read-fleet.ts'

type Entry = [number, string, object, { client_id?: string; create_time: number; secret?: string }, string[]]
interface Queue {
  queue_running: Entry[]
  queue_pending: Entry[]
  workers: { worker_id: string; name: string; queue_running: number; queue_pending: number }[]
  total_running: number
  total_pending: number
}

const idsOf = (entries: readonly Entry[]): string[] => entries.map(([, id]) => id)

describe('GET /queue', () => {
  it('answers as an idle ComfyUI does, with the fleet beside it', async () => {
    const fleet = await startFleet()
    const answer = await fleet.get('/queue')
    const [worker] = fleet.registry.list()
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8')
    expect(answer.body).toBe(
      `{"queue_running": [], "queue_pending": [], "workers": [{"worker_id": "${worker?.id}", "name": "gpu1", ` +
        '"queue_running": 0, "queue_pending": 0}], "total_running": 0, "total_pending": 0}',
    )
    expect((await fleet.get('/api/queue')).body).toBe(answer.body)
  })

  it('shows what runs, what was sent ahead first among what waits, and every id in the order it will run', async () => {
    const fleet = await startFleet()
    const running = await fleet.submit({ prompt: nap(30), client_id: 'c', extra_data: { note: 'kept' } })
    await until('it runs', () => fleet.queue.get(running)?.record.status === 'running')
    const sent = await fleet.submit({ prompt: nap(30, 2) })
    await until('the next is sent', () => fleet.queue.get(sent)?.record.status === 'dispatching')
    const last = await fleet.submit({ prompt: nap(30, 3) })
    const front = await fleet.submit({ prompt: nap(30, 4), front: true })

    const queue = (await fleet.get('/queue')).json<Queue>()
    expect(idsOf(queue.queue_running)).toEqual([running])
    expect(idsOf(queue.queue_pending)).toEqual([sent, front, last])
    const [number, , graph, extraData, outputs] = queue.queue_running[0] ?? []
    expect({ number, graph, outputs }).toEqual({ number: 0, graph: nap(30), outputs: ['3'] })
    expect(extraData).toEqual({ note: 'kept', create_time: expect.any(Number), client_id: 'c' })
    expect(queue.queue_pending[1]?.[0]).toBe(-3)
    await until(
      'the worker tells both',
      () => fleet.workerOf(fleet.workers[0]).inFlight.get(sent)?.phase === 'accepted',
    )
    const { workers, total_running, total_pending } = (await fleet.get('/queue')).json<Queue>()
    expect(workers[0]).toMatchObject({ queue_running: 1, queue_pending: 1 })
    expect({ total_running, total_pending }).toEqual({ total_running: 1, total_pending: 3 })
  })

  it('never shows partner keys, and keeps numbers that JavaScript would change', async () => {
    const fleet = await startFleet({ workers: [] })
    await fleet.store.prompts.admit(
      aPrompt({
        promptId: 'p',
        caller: 'a',
        body: {
          text: '{"prompt": {"2": {"seed": 18446744073709551615}, "1": {"x": 1.0}}, "extra_data": {"api_key_comfy_org": "s3cret"}}',
          sealed: undefined,
        },
      }),
      { idempotencyMs: 1 },
    )
    await fleet.queue.load()
    const { body } = await fleet.get('/queue')
    expect(body).toContain('{"2": {"seed": 18446744073709551615}, "1": {"x": 1.0}}')
    expect(body).not.toContain('s3cret')
  })

  it('shows what is not visible yet to nobody, and what is of another owner to no other', async () => {
    const fleet = await startFleet({ workers: [] })
    for (const [promptId, owner, admitted] of [
      ['mine', 'ann', true],
      ['yours', 'bob', true],
      ['early', 'ann', false],
    ] as const) {
      await fleet.queue.admit(aPrompt({ promptId, owner, admitted, caller: owner }))
    }
    const queue = (await fleet.get('/queue', { 'x-owner': 'ann', 'x-caller': 'ann' })).json<Queue>()
    expect(idsOf(queue.queue_pending)).toEqual(['mine'])
    expect(queue.total_pending).toBe(2)
  })

  it('carries the graphs of the first hundred of the caller and the ids of all', async () => {
    const fleet = await startFleet({ workers: [] })
    for (let at = 0; at < 130; at++) {
      const body = { text: `{"prompt": {"1": {"n": ${at}}}, "client_id": "c"}`, sealed: undefined }
      await fleet.queue.admit(aPrompt({ promptId: `p${at}`, caller: at % 2 === 0 ? 'a' : 'b', clientId: 'c', body }))
    }
    const seen = (await fleet.get('/queue', { 'x-caller': 'a' })).json<Queue>().queue_pending
    expect(seen).toHaveLength(130)
    expect(seen.filter(([, , graph]) => Object.keys(graph).length > 0).map(([, id]) => id)).toEqual(
      Array.from({ length: 65 }, (_, at) => `p${at * 2}`),
    )
    expect(seen[1]?.[3]).toEqual({ client_id: 'c', create_time: expect.any(Number) })

    for (let at = 0; at < 80; at++) await fleet.queue.admit(aPrompt({ promptId: `more${at}`, caller: 'a' }))
    const more = (await fleet.get('/queue', { 'x-caller': 'a' })).json<Queue>().queue_pending
    expect(more.filter(([, , graph]) => Object.keys(graph).length > 0)).toHaveLength(65)
    expect(more).toHaveLength(210)
  })
})

describe('the listing of a long queue', () => {
  async function longQueue(length: number) {
    const store = createMemoryStore()
    const log = pino({ level: 'silent' })
    const queue = new PromptQueue({
      store: store.prompts,
      events: createPromptEvents(),
      maxQueue: 1e6,
      idempotencyMs: 1,
      log,
    })
    for (let at = 0; at < length; at++) await queue.admit(aPrompt({ promptId: `p${at}` }))
    return { queue, store: store.prompts }
  }

  it('is the same bytes until the queue changes', async () => {
    const { queue, store } = await longQueue(10_000)
    let reads = 0
    const readBodies: typeof store.readBodies = (ids) => {
      reads++
      return store.readBodies(ids)
    }
    const listing = new QueueListing({ queue, store: { readBodies } })
    const who = { owner: 'open', caller: '127.0.0.1' }
    const [first, second] = await Promise.all([listing.members(who), listing.members(who)])
    expect(second).toBe(first)
    expect(await listing.members(who)).toBe(first)
    const before = reads
    await queue.admit(aPrompt({ promptId: 'new' }))
    const third = await listing.members(who)
    expect(third.toString()).toContain('"new"')
    expect(reads).toBe(before)
  })

  it('contains what was admitted while it was being made', async () => {
    const { queue, store } = await longQueue(2_000)
    const listing = new QueueListing({ queue, store })
    const who = { owner: 'open', caller: 'x' }
    const old = listing.members(who)
    await queue.admit(aPrompt({ promptId: 'new' }))
    expect((await listing.members(who)).toString()).toContain('"new"')
    await old
  })

  it('lets others run while it is made', async () => {
    const { queue, store } = await longQueue(200)
    const listing = new QueueListing({ queue, store, sliceMs: 0 })
    let turns = 0
    let isMade = false
    const count = (): void => {
      turns++
      if (!isMade) setImmediate(count)
    }
    setImmediate(count)
    await listing.members({ owner: 'open', caller: 'x' })
    isMade = true
    expect(turns).toBeGreaterThan(100)
  })
})

describe('POST /queue', () => {
  it('clears what the caller has waiting, here and on the worker, and nothing else', async () => {
    const fleet = await startFleet()
    const running = await fleet.submit({ prompt: nap(30) })
    await until('it runs', () => fleet.queue.get(running)?.record.status === 'running')
    const sent = await fleet.submit({ prompt: nap(30, 2) })
    await until('the next is sent', () => fleet.workerOf(fleet.workers[0]).inFlight.get(sent)?.phase === 'accepted')
    const mine = await fleet.submit({ prompt: nap(30, 3) })
    const theirs = await fleet.submit({ prompt: nap(30, 4) }, { caller: 'b' })
    const answer = await fleet.post('/queue', { clear: true })
    expect([answer.statusCode, answer.body, answer.headers['content-length'], answer.headers['content-type']]).toEqual([
      200,
      '',
      '0',
      undefined,
    ])
    expect(fleet.queue.get(mine)).toBeUndefined()
    await until('the sent one is gone', () => fleet.queue.get(sent) === undefined)
    expect(fleet.queue.get(running)?.record.status).toBe('running')
    expect(fleet.queue.get(theirs)).toBeDefined()
    expect((await fleet.get(`/history/${mine}`)).body).toBe('{}')
    expect((await fleet.get(`/history/${sent}`)).body).toBe('{}')
  })

  it('clears only what a client has waiting when the query names it', async () => {
    const fleet = await startFleet({ workers: [] })
    for (const clientId of ['c', 'd']) await fleet.queue.admit(aPrompt({ promptId: clientId, caller: 'a', clientId }))
    await fleet.post('/queue?clientId=c', { clear: true })
    expect([...fleet.queue.all()].map(({ promptId }) => promptId)).toEqual(['d'])
  })

  it('deletes by id what the owner has, and ignores unknown and running ids', async () => {
    const fleet = await startFleet()
    const running = await fleet.submit({ prompt: nap(30) })
    await until('it runs', () => fleet.queue.get(running)?.record.status === 'running')
    await fleet.queue.admit(aPrompt({ promptId: 'other', owner: 'bob' }))
    await fleet.queue.admit(aPrompt({ promptId: 'x', caller: 'b' }))
    const answer = await fleet.post('/api/queue', { delete: ['x', 'other', 'nobody', running, 5] })
    expect(answer.statusCode).toBe(200)
    expect(fleet.queue.get('x')).toBeUndefined()
    expect(fleet.queue.get('other')).toBeDefined()
    expect(fleet.queue.get(running)?.record.status).toBe('running')
  })

  it.each(['', '{', '[]', '{"delete": 1}'])('answers %j as ComfyUI does', async (body) => {
    const fleet = await startFleet({ workers: [] })
    for (const url of ['/queue', '/history']) {
      const answer = await fleet.post(url, body)
      expect([answer.statusCode, answer.headers['content-type'], answer.body]).toEqual([
        500,
        'text/plain; charset=utf-8',
        '500 Internal Server Error\n\nServer got itself in trouble',
      ])
    }
  })

  it('clears ten thousand', async () => {
    const fleet = await startFleet({ workers: [] })
    for (let at = 0; at < 10_000; at++) await fleet.queue.admit(aPrompt({ promptId: `p${at}`, caller: 'a' }))
    await fleet.post('/queue', { clear: true })
    expect((await fleet.get('/queue')).json<Queue>().queue_pending).toEqual([])
  })
})

describe('POST /interrupt', () => {
  async function twoRunning() {
    const fleet = await startFleet({ workers: [{}, {}] })
    const mine = await fleet.submit({ prompt: nap(30), client_id: 'c' })
    const theirs = await fleet.submit({ prompt: nap(30, 2), client_id: 'c' }, { caller: 'b' })
    await until('both run', () => [mine, theirs].every((id) => fleet.queue.get(id)?.record.status === 'running'))
    return { fleet, mine, theirs }
  }
  const hasEnded = (fleet: Awaited<ReturnType<typeof startFleet>>, id: string) => () =>
    fleet.queue.get(id) === undefined

  it.each(['', '{', '{}', '{"prompt_id": ""}', '{"prompt_id": null}'])(
    'stops what the caller has running for the body %j',
    async (body) => {
      const { fleet, mine, theirs } = await twoRunning()
      const answer = await fleet.post('/interrupt', body, { 'content-type': 'application/json' })
      expect([answer.statusCode, answer.body]).toEqual([200, ''])
      await until('mine has ended', hasEnded(fleet, mine))
      expect(fleet.queue.get(theirs)?.record.status).toBe('running')
      expect((await fleet.store.prompts.get(mine))?.status).toBe('cancelled')
    },
  )

  it('stops the one that is named', async () => {
    const { fleet, mine, theirs } = await twoRunning()
    await fleet.post('/interrupt', { prompt_id: theirs })
    await until('theirs has ended', hasEnded(fleet, theirs))
    expect(fleet.queue.get(mine)?.record.status).toBe('running')
  })

  it('does nothing to a prompt that waits, to one of another owner, or to clients that are not named', async () => {
    const { fleet, mine, theirs } = await twoRunning()
    await fleet.queue.admit(aPrompt({ promptId: 'waits' }))
    await fleet.post('/interrupt', { prompt_id: 'waits' })
    await fleet.post('/interrupt', { prompt_id: mine }, { 'x-owner': 'bob' })
    await fleet.post('/interrupt?clientId=other', '')
    expect(fleet.workers.flatMap((worker) => worker.ledger.requestsOf('POST /interrupt'))).toEqual([])
    for (const id of [mine, theirs]) expect(fleet.queue.get(id)?.record.status).toBe('running')
    expect(fleet.queue.get('waits')).toBeDefined()
  })
})

describe('POST /free', () => {
  it('asks every worker that is up, and answers though one does not', async () => {
    const fleet = await startFleet({ workers: [{}, {}] })
    fleet.workers[1]?.faults.set('POST /free', { kind: 'reset-before' })
    const answer = await fleet.post('/free', '{"unload_models": true, "free_memory": true}')
    expect([answer.statusCode, answer.body]).toEqual([200, ''])
    for (const worker of fleet.workers) {
      expect(worker.ledger.requestsOf('POST /free').map(({ body }) => body)).toEqual([
        '{"unload_models": true, "free_memory": true}',
      ])
    }
    expect((await fleet.post('/free', '')).statusCode).toBe(500)
    expect((await fleet.post('/free', 'x')).statusCode).toBe(500)
  })
})

it('keeps a prompt in the queue until its history can be read', async () => {
  const fleet = await startFleet()
  const promptId = await fleet.submit({ prompt: picture() })
  await until('it has left the queue', async () => !(await fleet.get('/queue')).body.includes(promptId))
  expect((await fleet.get(`/history/${promptId}`)).json()).toHaveProperty([promptId, 'status', 'completed'], true)
})
