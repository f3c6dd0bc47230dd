import { afterEach, describe, expect, it } from 'vitest'
import { SocketClient } from '../relay/socket-client.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, historyOf, pictureGraph, queueOf, submit } from '../support/comfy-client.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

const post = (url: string, path: string, body?: object) =>
  fetch(`${url}${path}`, { method: 'POST', ...(body === undefined ? {} : { body: JSON.stringify(body) }) })

/** One worker that is busy with the first, holds the second, and the rest wait here. */
async function aBusyWorker(count: number): Promise<{ fleet: TestGateway; ids: string[] }> {
  const built = await buildTestGateway({ workers: 1 })
  const ids = []
  for (let n = 0; n < count; n++) {
    ids.push(
      (await submit(built.url, { prompt: pictureGraph({ colour: n, sleepS: n === 0 ? 2 : 0.05 }), client_id: 'c' }))
        .promptId,
    )
  }
  await until(() => built.workers[0]?.queueRemaining === Math.min(2, count))
  return { fleet: built, ids }
}

describe('stopping prompts', () => {
  it('deletes one that waits here without trace', async () => {
    const busy = await aBusyWorker(3)
    fleet = busy.fleet
    const { url, workers } = fleet
    const [first = '', second = '', third = ''] = busy.ids
    expect((await post(url, '/queue', { delete: [third] })).status).toBe(200)
    expect((await queueOf(url)).queue_pending.map(([, id]) => id)).toEqual([second])
    await post(url, '/interrupt', { prompt_id: first })
    await finished(url, second)
    expect(await historyOf(url, third)).toBeUndefined()
    expect(workers[0]?.ledger.runsOf(third)).toEqual([])
  })

  it('deletes one that sits on a worker and has not started', async () => {
    const busy = await aBusyWorker(2)
    fleet = busy.fleet
    const { url, workers } = fleet
    const [first = '', second = ''] = busy.ids
    expect((await post(url, '/queue', { delete: [second] })).status).toBe(200)
    await until(async () => (await queueOf(url)).queue_pending.length === 0)
    expect(workers[0]?.queueRemaining).toBe(1)
    await post(url, '/interrupt', { prompt_id: first })
    await finished(url, first)
    expect(await historyOf(url, second)).toBeUndefined()
    expect(workers[0]?.ledger.runsOf(second)).toEqual([])
  })

  it('interrupts only the prompt that is named, and tells its end as ComfyUI does', async () => {
    const busy = await aBusyWorker(2)
    fleet = busy.fleet
    const { url } = fleet
    const [first = '', second = ''] = busy.ids
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    expect((await post(url, '/interrupt', { prompt_id: 'unknown' })).status).toBe(200)
    expect((await post(url, '/interrupt', { prompt_id: second })).status).toBe(200)
    expect((await post(url, '/interrupt', { prompt_id: first })).status).toBe(200)
    const entry = await finished(url, first)
    expect(entry.status).toMatchObject({ status_str: 'error', completed: false })
    expect(entry.status.messages.at(-1)?.[0]).toBe('execution_interrupted')
    expect((await finished(url, second)).status.status_str).toBe('success')
    await client.untilTold(`executing ${second}:null`)
    expect(client.plot).toContain(`execution_interrupted ${first}`)
    await client.leave()
  })

  it("interrupts all of the caller's running prompts when none is named, with an empty body", async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url } = fleet
    const answers = await Promise.all(
      [1, 2].map((n) => submit(url, { prompt: pictureGraph({ colour: n, sleepS: 5 }) })),
    )
    await until(async () => (await queueOf(url)).queue_running.length === 2)
    expect((await post(url, '/interrupt')).status).toBe(200)
    for (const { promptId } of answers) {
      expect((await finished(url, promptId)).status.messages.at(-1)?.[0]).toBe('execution_interrupted')
    }
  })

  it('clears what waits and leaves what runs', async () => {
    const busy = await aBusyWorker(5)
    fleet = busy.fleet
    const { url, workers } = fleet
    const [first = ''] = busy.ids
    await post(url, '/queue', { clear: true })
    await until(async () => (await queueOf(url)).queue_pending.length === 0)
    expect((await queueOf(url)).queue_running.map(([, id]) => id)).toEqual([first])
    await post(url, '/interrupt', { prompt_id: first })
    await finished(url, first)
    expect(workers[0]?.ledger.runs).toHaveLength(1)
  })

  it('does not run a prompt again whose worker dies after it was interrupted', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 5 }) })
    const worker = await until(() => workers.find(({ ledger }) => ledger.runs.length > 0))
    worker.faults.set('POST /interrupt', { kind: 'hang' })
    const interrupt = post(url, '/interrupt', { prompt_id: promptId })
    await until(() => worker.ledger.requestsOf('POST /interrupt').length > 0)
    worker.kill()
    await interrupt
    expect((await finished(url, promptId)).status.messages.at(-1)?.[0]).toBe('execution_interrupted')
    expect(workers.flatMap(({ ledger }) => ledger.runsOf(promptId))).toHaveLength(1)
  })

  it('runs what is in front first, then by number', async () => {
    const busy = await aBusyWorker(2)
    fleet = busy.fleet
    const { url, workers } = fleet
    const say = async (more: object, n: number) =>
      (await submit(url, { prompt: pictureGraph({ colour: 100 + n }), ...more })).promptId
    const normal = await say({}, 1)
    const front = await say({ front: true }, 2)
    const number = await say({ number: -1000 }, 3)
    const urgent = await say({ priority: 1 }, 4)
    await post(url, '/interrupt', { prompt_id: busy.ids[0] ?? '' })
    await Promise.all([normal, front, number, urgent].map((id) => finished(url, id)))
    const order = workers[0]?.ledger.runs.map(({ promptId }) => promptId).slice(2)
    expect(order).toEqual([urgent, number, front, normal])
  })

  it('gives a draining worker nothing new and lets it finish', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers, gateway } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 0.5 }) })
    const busy = await until(() => workers.find(({ ledger }) => ledger.runs.length > 0))
    const { id } = await until(() => gateway.workers().find((worker) => worker.config.url === busy.url))
    expect((await post(url, `/api/workers/${id}/drain`)).status).toBe(200)
    for (let n = 0; n < 4; n++) {
      await finished(url, (await submit(url, { prompt: pictureGraph({ colour: n }) })).promptId)
    }
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    expect(busy.ledger.runs).toHaveLength(1)
  })
})
