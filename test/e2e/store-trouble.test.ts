import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SocketClient } from '../relay/socket-client.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, historyOf, pictureGraph, queueOf, submit } from '../support/comfy-client.ts'
import { holdVerb, storeFaults } from '../support/faulty-store.ts'

vi.mock('../../src/store/open.ts', () => import('../support/faulty-store.ts'))

let fleet: TestGateway | undefined
const rejections: unknown[] = []
const note = (reason: unknown) => rejections.push(reason)
beforeEach(() => {
  storeFaults.clear()
  rejections.length = 0
  process.on('unhandledRejection', note)
})
afterEach(async () => {
  storeFaults.clear()
  await fleet?.close()
  fleet = undefined
  process.off('unhandledRejection', note)
})

const ID = '5b0b1a52-7d0b-4a2b-9b39-3b4b5c6d7e8f'
const post = (url: string, path: string, body?: object) =>
  fetch(`${url}${path}`, { method: 'POST', ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
const removeWorker = async (url: string, id: string) =>
  expect((await fetch(`${url}/api/workers/${id}`, { method: 'DELETE' })).ok).toBe(true)

describe('a store that fails between two steps', () => {
  it('runs a prompt that was stored but could neither be sent nor made visible at once', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    storeFaults.failing.add('startAttempt').add('publish')
    const body = { prompt: pictureGraph(), prompt_id: ID }
    const first = await submit(url, body)
    storeFaults.clear()
    const again = await submit(url, body)
    expect([first.status, again.status]).toEqual([200, 200])
    expect((await finished(url, ID)).status.status_str).toBe('success')
    expect(workers[0]?.ledger.runsOf(ID)).toHaveLength(1)
  })

  it('asks the store calmly while no claim is taken', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    storeFaults.failing.add('startAttempt')
    const { status, promptId } = await submit(url, { prompt: pictureGraph() })
    expect(status).toBe(200)
    expect(storeFaults.calls.get('startAttempt')).toBeLessThan(5)
    storeFaults.clear()
    await finished(url, promptId)
  })

  it('lets no promise reject unheard when it stops while the store is away', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 5 }) })
    await until(() => workers[0]?.ledger.runsOf(promptId).length === 1)
    storeFaults.failing.add('requeue').add('finish')
    await workers[0]?.kill()
    await until(() => gateway.workers()[0]?.state.kind === 'down')
    await until(() => (storeFaults.calls.get('requeue') ?? 0) > 0)
    await fleet.close()
    fleet = undefined
    const tries = storeFaults.calls.get('requeue') ?? 0
    await until(() => (storeFaults.calls.get('requeue') ?? 0) > tries || rejections.length > 0, {
      deadlineMs: 3_000,
    }).catch(() => undefined)
    expect(rejections).toEqual([])
  })
})

describe('a store whose answers are lost on the way', () => {
  it.each(['admit', 'publish', 'startAttempt', 'readBody', 'markRunning', 'finish'] as const)(
    'loses no prompt and runs none twice when %s was done and not answered',
    async (verb) => {
      fleet = await buildTestGateway({ workers: 2 })
      const { url, workers } = fleet
      storeFaults.answerLost.set(verb, 1)
      const body = { prompt: pictureGraph(), prompt_id: ID }
      // As a client does that got a 503: the same again.
      await until(async () => (await submit(url, body)).status === 200)
      expect((await finished(url, ID)).status.status_str).toBe('success')
      expect(workers.flatMap(({ ledger }) => ledger.runsOf(ID))).toHaveLength(1)
      const { queue_running, queue_pending } = await queueOf(url)
      expect([queue_running, queue_pending]).toEqual([[], []])
    },
  )

  it('runs a prompt again although the answer to putting it back was lost', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    storeFaults.answerLost.set('requeue', 1)
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.5 }) })
    const busy = await until(() => workers.find(({ ledger }) => ledger.runs.length > 0))
    busy.kill()
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    expect(storeFaults.answerLost.get('requeue')).toBe(0)
  })
})

describe('a store that refuses a result', () => {
  it('ends the prompt as failed after its attempts, instead of leaving it for ever', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { MAX_ATTEMPTS: '2' } })
    const { url } = fleet
    storeFaults.refusing.set('finish', new Error('larger than the server takes'))
    const { promptId } = await submit(url, { prompt: pictureGraph() })
    const entry = await finished(url, promptId)
    expect(entry.status.messages.at(-1)?.[1]).toMatchObject({
      exception_type: 'too_many_attempts',
      exception_message: expect.stringContaining('could not be kept'),
    })
  })
})

describe('a store that is away while prompts run', () => {
  it('keeps the end of a prompt whose messages had to wait, and tells it in order', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    storeFaults.failing.add('newestOnWorker').add('finish').add('markRunning')
    const { promptId } = await submit(url, { prompt: pictureGraph(), client_id: 'c' })
    await until(() => (storeFaults.calls.get('newestOnWorker') ?? 0) > 2)
    expect(await historyOf(url, promptId)).toBeUndefined()
    storeFaults.clear()
    await client.untilTold(`executing ${promptId}:null`)
    const told = client.plot.filter((line) =>
      /^(execution_start|executed|execution_success|executing .*:null)/.test(line),
    )
    expect(told).toEqual([
      `execution_start ${promptId}`,
      `executed ${promptId}:2`,
      `execution_success ${promptId}`,
      `executing ${promptId}:null`,
    ])
    await client.leave()
  })
})

describe('a worker that is taken away while a prompt is on its way to it', () => {
  it('is not sent the prompt any more when the claim comes through after that', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers, gateway } = fleet
    const release = holdVerb('startAttempt')
    const { promptId } = await submit(url, { prompt: pictureGraph() })
    const holder = await until(() => gateway.workers().find(({ inFlight }) => inFlight.size > 0))
    await removeWorker(url, holder.id)
    release()
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    expect(workers.flatMap(({ ledger }) => ledger.requestsOf('POST /prompt'))).toHaveLength(1)
    expect(workers.find((each) => each.url === holder.config.url)?.ledger.runs).toEqual([])
  })

  it('is not sent it either when its text is read after that', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers, gateway } = fleet
    const release = holdVerb('readBody')
    const { promptId } = await submit(url, { prompt: pictureGraph() })
    const holder = await until(() => gateway.workers().find(({ inFlight }) => inFlight.size > 0))
    await removeWorker(url, holder.id)
    release()
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    expect(workers.flatMap(({ ledger }) => ledger.requestsOf('POST /prompt'))).toHaveLength(1)
  })

  it('costs no prompt when it goes between the choice and the admission', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, gateway } = fleet
    const release = holdVerb('admit')
    const answer = submit(url, { prompt: pictureGraph() })
    const holder = await until(() => gateway.workers().find(({ inFlight }) => inFlight.size > 0))
    await removeWorker(url, holder.id)
    release()
    expect((await finished(url, (await answer).promptId)).status.status_str).toBe('success')
  })
})

describe('verdicts and a slow store', () => {
  const refused = { '1': { class_type: 'LoadImage', inputs: { image: 'nope.png' } } }
  const graph = { ...refused, '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'x' } } }

  it('answers a refusal that came with the time-out as a refusal, since nothing of the prompt is kept', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { VERDICT_TIMEOUT_MS: '300' } })
    const { url } = fleet
    const release = holdVerb('discard')
    const answer = submit(url, { prompt: graph, prompt_id: ID })
    await until(() => storeFaults.calls.has('publish'))
    release()
    expect((await answer).status).toBe(400)
    expect(await historyOf(url, ID)).toBeUndefined()
  })

  it('gives both of two equal prompts the same refusal', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    for (const worker of workers) worker.faults.set('POST /prompt', { kind: 'delay', ms: 200 })
    const answers = await Promise.all([1, 2].map(() => submit(url, { prompt: graph, prompt_id: ID })))
    expect(answers.map(({ status }) => status)).toEqual([400, 400])
  })
})

describe('deleting a prompt on its way to a worker', () => {
  it('never sends one that was deleted while it was claimed', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    const worker = gateway.workers()[0]
    const running = await submit(url, { prompt: pictureGraph({ sleepS: 5 }) })
    await until(() => workers[0]?.ledger.runs.length === 1)
    const release = holdVerb('readBody')
    const { promptId } = await submit(url, { prompt: pictureGraph({ colour: 2 }), prompt_id: ID })
    await until(() => worker?.inFlight.has(promptId) && (storeFaults.calls.get('readBody') ?? 0) > 1)
    expect((await post(url, '/queue', { delete: [promptId] })).status).toBe(200)
    release()
    await until(() => worker?.inFlight.size === 1)
    expect(workers[0]?.ledger.requestsOf('POST /prompt')).toHaveLength(1)
    await post(url, '/interrupt', { prompt_id: running.promptId })
    await finished(url, running.promptId)
  })

  it('does not run one elsewhere that was deleted while its worker was given up', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    const first = await submit(url, { prompt: pictureGraph({ sleepS: 5 }) })
    await until(() => workers[0]?.ledger.runs.length === 1)
    const { promptId } = await submit(url, { prompt: pictureGraph({ colour: 2 }), prompt_id: ID })
    await until(() => workers[0]?.queueRemaining === 2)
    const release = holdVerb('requeue')
    await workers[0]?.kill()
    await until(() => (storeFaults.calls.get('requeue') ?? 0) === 2)
    expect((await post(url, '/queue', { delete: [promptId] })).status).toBe(200)
    release()
    await workers[0]?.start()
    await until(() => gateway.workers()[0]?.isUp)
    await until(() => workers[0]?.ledger.runsOf(first.promptId).length === 2)
    await post(url, '/interrupt', { prompt_id: first.promptId })
    await finished(url, first.promptId)
    await until(async () => (await (await fetch(`${url}/prompt`)).text()).includes('"queue_remaining": 0'))
    expect(workers[0]?.ledger.runsOf(promptId)).toEqual([])
  })
})
