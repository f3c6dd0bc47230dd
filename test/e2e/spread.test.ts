import { afterEach, describe, expect, it } from 'vitest'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, pictureGraph, submit } from '../support/comfy-client.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

describe('prompts over several workers', () => {
  it('gives six prompts at once on three idle workers two each', async () => {
    fleet = await buildTestGateway({ workers: 3 })
    const { url, workers } = fleet
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, n) => submit(url, { prompt: pictureGraph({ colour: n, sleepS: 0.5 }) })),
    )
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200])
    await Promise.all(answers.map(({ promptId }) => finished(url, promptId)))
    expect(workers.map((worker) => worker.ledger.requestsOf('POST /prompt').length)).toEqual([2, 2, 2])
  })

  it('holds at most the running prompt and one more on a worker', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const answers = []
    for (let n = 0; n < 5; n++) answers.push(await submit(url, { prompt: pictureGraph({ colour: n, sleepS: 0.2 }) }))
    let most = 0
    const done = Promise.all(answers.map(({ promptId }) => finished(url, promptId)))
    await until(async () => {
      most = Math.max(most, workers[0]?.queueRemaining ?? 0)
      return workers[0]?.ledger.runs.length === 5
    })
    await done
    expect(most).toBe(2)
  })

  it('uses both workers for prompts that come one after the other', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    for (let n = 0; n < 4; n++)
      await finished(url, (await submit(url, { prompt: pictureGraph({ colour: n }) })).promptId)
    expect(workers.map((worker) => worker.ledger.runs.length)).toEqual([2, 2])
  })

  it('answers within the verdict time although a worker is frozen, and at once when it is suspect', async () => {
    fleet = await buildTestGateway({
      workers: 3,
      env: { HEALTH_INTERVAL_MS: '200', PROMPT_TIMEOUT_MS: '10000', GIVE_UP_SECONDS: '60' },
    })
    const { url, workers, gateway } = fleet
    workers[0]?.freeze()
    const early = await Promise.all(
      Array.from({ length: 6 }, (_, n) => submit(url, { prompt: pictureGraph({ colour: n }) })),
    )
    for (const { elapsedMs, status } of early) {
      expect(status).toBe(200)
      expect(elapsedMs).toBeLessThan(1_200)
    }
    await until(() => gateway.workers().some(({ state }) => state.kind === 'suspect'), { deadlineMs: 15_000 })
    const late = await Promise.all(
      Array.from({ length: 6 }, (_, n) => submit(url, { prompt: pictureGraph({ colour: 100 + n }) })),
    )
    await Promise.all(late.map(({ promptId }) => finished(url, promptId)))
    workers[0]?.thaw()
    await Promise.all(early.map(({ promptId }) => finished(url, promptId)))
  })

  it('sends a graph on byte for byte: a 64-bit seed, 1.0 and the order of its nodes', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const graph =
      '{"10": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 7}}, ' +
      '"2": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "seed"}, ' +
      '"_meta": {"seed": 18446744073709551615, "scale": 1.0, "nan": NaN, "text": "\\u00e9\\n"}}}'
    const { promptId } = await submit(url, `{"prompt": ${graph}, "number": 1.0}`)
    const history = await until(async () => {
      const text = await (await fetch(`${url}/history/${promptId}`)).text()
      return text === '{}' ? undefined : text
    })
    expect(history).toContain('"status_str": "success"')
    expect(history).toContain(graph)
    const posted = workers[0]?.ledger.requestsOf('POST /prompt')[0]?.body ?? ''
    expect(posted).toContain(graph)
  })
})
