import { describe, expect, it } from 'vitest'
import { bareRoute, Ledger, type LedgerEvent, MAX_RECORDED_BODY } from '../../src/demo/ledger.ts'
import { createSimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { imagePrompt } from './prompts.ts'
import { post, send, until } from './raw-client.ts'

describe('the ledger', () => {
  it('keeps each request with its path, headers and body as they came', async () => {
    const worker = await createSimulatedWorker()
    const body = '{"prompt": {},  "x": 18446744073709551615, "y": 1.0}'
    await send(worker.url, { method: 'POST', path: '/api/prompt?a=1', headers: { 'x-mine': 'yes' }, body })
    expect(worker.ledger.requestsOf('POST /prompt')).toMatchObject([
      { method: 'POST', path: '/api/prompt?a=1', body, headers: { 'x-mine': 'yes' } },
    ])
    await worker.close()
  })

  it('tells runs apart, also of one id', async () => {
    const worker = await createSimulatedWorker()
    for (const colour of [1, 2])
      await post(worker.url, '/prompt', { prompt: imagePrompt({ colour }), prompt_id: 'twice' })
    await until(() => worker.queueRemaining === 0)
    const runs = worker.ledger.runsOf('twice')
    expect(runs.map(({ outcome }) => outcome)).toEqual(['success', 'success'])
    expect(runs.every(({ startedAt, endedAt }) => endedAt !== undefined && endedAt >= startedAt)).toBe(true)
    await worker.close()
  })

  it('tells of posted prompts and of runs as they happen', async () => {
    const events: LedgerEvent[] = []
    const worker = await createSimulatedWorker({ onLedgerEvent: (event) => events.push(event) })
    const prompt = imagePrompt()
    await post(worker.url, '/api/prompt', { prompt, prompt_id: 'p' })
    await until(() => worker.queueRemaining === 0)
    await worker.close()
    expect(events).toMatchObject([
      { kind: 'posted', body: JSON.stringify({ prompt, prompt_id: 'p' }) },
      { kind: 'started', promptId: 'p' },
      { kind: 'ended', promptId: 'p', outcome: 'success' },
    ])
  })

  it('stays bounded', () => {
    const ledger = new Ledger({ maxEntries: 100 })
    for (let index = 0; index < 1_000; index += 1) {
      ledger.request({ method: 'GET', path: `/${index}`, headers: {} }, Buffer.alloc(0))
      ledger.runStarted(`${index}`)
      ledger.fileMade(`${index}`, 'p')
    }
    expect(ledger.requests.length).toBeLessThan(150)
    expect(ledger.requests.at(-1)?.path).toBe('/999')
    expect(ledger.runs.length).toBeLessThan(150)
    expect(ledger.files.size).toBe(100)
    ledger.request({ method: 'POST', path: '/', headers: {} }, Buffer.alloc(MAX_RECORDED_BODY + 5, 'x'))
    expect(ledger.requests.at(-1)?.body.length).toBe(MAX_RECORDED_BODY)
  })

  it('counts the first end of a run only', () => {
    const ledger = new Ledger({ maxEntries: 10 })
    const run = ledger.runStarted('p')
    ledger.runEnded(run, 'killed')
    ledger.runEnded(run, 'success')
    expect(run.outcome).toBe('killed')
  })

  it.each([
    ['/api/prompt?x=/api/y', '/prompt'],
    ['/prompt', '/prompt'],
    ['/api', '/api'],
    ['/api/jobs/1', '/api/jobs/1'],
  ])('takes %s for the route %s', (path, route) => {
    expect(bareRoute(path)).toBe(route)
  })
})
