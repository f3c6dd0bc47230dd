import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { createPromptEvents } from '../../../src/queue/events.ts'
import type { Prompt } from '../../../src/queue/prompt.ts'
import { PromptQueue } from '../../../src/queue/queue.ts'
import { progressOf, taskRoutes } from '../../../src/routes/gateway/tasks.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'
import type { NewPrompt, Store } from '../../../src/store/store.ts'
import type { Worker } from '../../../src/workers/worker.ts'
import { anOutcome, aPrompt } from '../../support/prompts.ts'
import { plainApp } from './plain-app.ts'

let app: FastifyInstance
let store: Store
let queue: PromptQueue

beforeEach(async () => {
  store = createMemoryStore()
  queue = new PromptQueue({
    store: store.prompts,
    events: createPromptEvents(),
    maxQueue: 100,
    idempotencyMs: 0,
    log: pino({ level: 'silent' }),
  })
  const registry = {
    get: (id: string) => (id === 'w1' ? ({ config: { name: 'GPU 1' } } as Worker) : undefined), // Only its name is read.
  }
  app = await plainApp(taskRoutes({ queue, store: store.prompts, registry }))
})

describe('the status of a prompt', () => {
  it('while it waits: its place and why', async () => {
    await admit({ promptId: 'a' })
    const prompt = await admit({ promptId: 'b' })
    prompt.waitReason = 'the workers that can run it are busy or away'
    expect(await status('b')).toEqual({
      prompt_id: 'b',
      worker_id: null,
      worker_name: null,
      status: 'queued',
      progress: 0,
      message: 'the workers that can run it are busy or away',
      queue_position: 2,
      execution_time: null,
    })
    expect(await job('job-b')).toEqual({ gateway_job_id: 'job-b', status: 'queued', prompt_id: 'b' })
  })

  it('while it is with a worker that has not started it', async () => {
    const prompt = await admit({ promptId: 'a' })
    await claim(prompt)
    expect(await status('a')).toMatchObject({
      status: 'queued',
      worker_id: 'w1',
      queue_position: 0,
      execution_time: null,
    })
    expect((await status('a')).message).toMatch(/GPU 1/)
    expect((await job('job-a')).status).toBe('submitted')
  })

  it('while it runs: how far it is, by its nodes and the steps of the one that runs', async () => {
    const prompt = await admit({ promptId: 'a' })
    await queue.started(prompt, await claim(prompt))
    Object.assign(prompt.progress, { node: '3', finishedNodes: 2, value: 10, max: 20 })
    const running = await status('a')
    expect(running).toMatchObject({
      status: 'running',
      worker_id: 'w1',
      worker_name: 'GPU 1',
      progress: 35.7,
      message: null,
      queue_position: null,
    })
    expect(running.execution_time).toBeGreaterThanOrEqual(0)
    expect((await job('job-a')).status).toBe('running')
  })

  it('when it waits again: nothing is left of its first attempt', async () => {
    const prompt = await admit({ promptId: 'a' })
    const attempt = await claim(prompt)
    await queue.started(prompt, attempt)
    Object.assign(prompt.progress, { finishedNodes: 5 })
    await queue.requeue(prompt, attempt, { sent: true, workerDied: true, log: 'died' })
    expect(await status('a')).toMatchObject({
      status: 'queued',
      worker_id: null,
      progress: 0,
      queue_position: 1,
      execution_time: null,
    })
  })

  it.each([
    ['succeeded', 'done', 'done', 100, undefined],
    ['failed', 'failed', 'failed', 0, 'out of memory'],
    ['cancelled', 'cancelled', 'failed', 0, 'interrupted'],
  ] as const)('when it has %s', async (end, shown, shownJob, progress, reason) => {
    const prompt = await admit({ promptId: 'a' })
    const attempt = await claim(prompt)
    await queue.started(prompt, attempt)
    await queue.finish(prompt, attempt.number, anOutcome({ status: end, reason }), { messages: [], log: 'over' })
    expect(await status('a')).toMatchObject({ status: shown, progress, message: reason ?? null, queue_position: null })
    expect((await status('a')).worker_name).toBe('GPU 1')
    expect((await status('a')).execution_time).toBeGreaterThanOrEqual(0)
    expect((await job('job-a')).status).toBe(shownJob)
  })

  it('of the job that used the prompt_id before is its own', async () => {
    const first = await admit({ promptId: 'a', gatewayJobId: 'first' })
    await queue.finish(first, 0, anOutcome({ status: 'failed', reason: 'x' }), { messages: [], log: '' })
    await admit({ promptId: 'a', gatewayJobId: 'second' })
    expect((await job('second')).status).toBe('queued')
    expect((await app.inject('/api/task/gateway/first')).statusCode).toBe(404)
  })

  it('is found by an id that is no path segment as it stands', async () => {
    const promptId = `${'long '.repeat(60)}/ü?#`
    await admit({ promptId })
    expect((await status(promptId)).prompt_id).toBe(promptId)
  })
})

it('shows the log of a prompt, oldest line first', async () => {
  const prompt = await admit({ promptId: 'a' })
  await claim(prompt)
  const { prompt_id, lines } = (await app.inject('/api/gateway/prompts/a/log')).json()
  expect(prompt_id).toBe('a')
  expect(lines.at(-1)).toEqual({ at: expect.any(Number), text: 'to GPU 1' })
})

describe.each(['/api/task/a/status', '/api/task/gateway/job-a', '/api/gateway/prompts/a/log'])(
  '%s is 404 in JSON',
  (url) => {
    it.each<[name: string, given: Partial<NewPrompt> | undefined]>([
      ['for an unknown id', undefined],
      ['for a prompt of another owner', { owner: 'key' }],
      ['for a prompt whose verdict is not out', { admitted: false }],
    ])('%s', async (_name, given) => {
      if (given) await admit({ promptId: 'a', ...given })
      const answer = await app.inject(url)
      expect(answer.statusCode).toBe(404)
      expect(answer.json()).toMatchObject({ error: { type: expect.stringMatching(/_not_found$/) }, node_errors: {} })
    })
  },
)

describe('progress', () => {
  const { traits } = aPrompt({ promptId: 'p' })
  it.each<[finishedNodes: number, value: number, max: number, nodeCount: number, percent: number]>([
    [0, 0, 0, 7, 0],
    [3, 0, 0, 7, 42.9],
    [3, 5, 10, 7, 50],
    [3, 20, 10, 7, 57.1],
    [3, -5, 10, 7, 42.9],
    [7, 0, 0, 7, 99.9],
    [9, 1, 1, 7, 99.9],
    [0, 1, 2, 0, 50],
  ])('%i nodes done and %d of %d, of %i nodes: %d %%', (finishedNodes, value, max, nodeCount, percent) => {
    const record = { status: 'running', traits: { ...traits, nodeCount } } as const
    expect(progressOf(record, { node: '1', finishedNodes, value, max })).toBe(percent)
  })
})

async function admit(given: Partial<NewPrompt> & { promptId: string }): Promise<Prompt> {
  const admitted = await queue.admit(aPrompt(given))
  if (admitted.kind !== 'admitted') throw new Error('it is known already')
  return admitted.prompt
}

async function claim(prompt: Prompt) {
  const attempt = await queue.claim(prompt, { workerId: 'w1', fence: 0, log: 'to GPU 1' })
  if (!attempt) throw new Error('it does not wait')
  return attempt
}

const status = async (promptId: string) => (await app.inject(`/api/task/${encodeURIComponent(promptId)}/status`)).json()
const job = async (id: string) => (await app.inject(`/api/task/gateway/${id}`)).json()
