import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import { createSimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { readPicture } from '../../src/verify/picture.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, type HistoryEntry, historyOf, pictureGraph, submit } from '../support/comfy-client.ts'
import { loadGraph, png, upload } from '../support/uploads.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

const imageOf = (entry: HistoryEntry) => {
  const image = Object.values(entry.outputs)[0]?.images?.[0]
  if (!image) throw new Error(`no picture in ${JSON.stringify(entry.status)}`)
  return image
}

const colourAt = async (url: string) => {
  const response = await fetch(url)
  expect(response.status).toBe(200)
  return readPicture(Buffer.from(await response.arrayBuffer())).colour
}

const resultOf = async (url: string, promptId: string) => colourAt(imageOf(await finished(url, promptId, 30_000)).url)

const ran = (workers: TestGateway['workers'], promptId: string) =>
  workers.filter(({ ledger }) => ledger.runs.some((run) => run.promptId === promptId))

async function uploadAndSubmit(url: string, colour: number, options: { from?: string } = {}): Promise<string> {
  const headers = options.from === undefined ? {} : { 'x-forwarded-for': options.from }
  const { name } = await upload(url, 'input.png', png(colour), { overwrite: 'true' }, { headers })
  const response = await fetch(`${url}/prompt`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ prompt: loadGraph(name) }),
  })
  expect(response.status).toBe(200)
  return ((await response.json()) as { prompt_id: string }).prompt_id
}

describe('uploads under one name with overwrite', () => {
  it('give two clients that upload and submit at once, 100 times on 4 workers, each its own picture', {
    timeout: 120_000,
  }, async () => {
    fleet = await buildTestGateway({ workers: 4, env: { TRUSTED_PROXIES: '127.0.0.1' } })
    const { url, workers } = fleet
    const wanted = new Map<string, number>()
    await Promise.all(
      ['192.0.2.1', '192.0.2.2'].map(async (from, client) => {
        for (let round = 0; round < 100; round++) {
          const colour = 1 + client * 1_000 + round
          wanted.set(await uploadAndSubmit(url, colour, { from }), colour)
        }
      }),
    )
    expect(wanted.size).toBe(200)
    const wrong: string[] = []
    for (const [promptId, colour] of wanted) {
      const given = await resultOf(url, promptId)
      if (given !== colour) wrong.push(`${promptId}: ${given} instead of ${colour}`)
    }
    expect(wrong).toEqual([])
    for (const worker of workers) expect(worker.ledger.runs.length).toBeGreaterThan(20)
  })

  it('are bound when a prompt comes: what is uploaded while it waits changes nothing for it', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url } = fleet
    const busy = [1, 2, 3, 4].map((n) => submit(url, { prompt: pictureGraph({ colour: n, sleepS: 0.5 }) }))
    await Promise.all(busy)
    const wanted = new Map<string, number>()
    for (let colour = 1; colour <= 20; colour++) wanted.set(await uploadAndSubmit(url, colour), colour)
    for (const [promptId, colour] of wanted) expect(await resultOf(url, promptId)).toBe(colour)
  })
})

describe('an input file', () => {
  it('is brought to the worker that runs the prompt, once for each content', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    await upload(url, 'u.png', png(7), { subfolder: 'a/b' })
    const prompts = await Promise.all(
      Array.from({ length: 10 }, (_, n) => submit(url, { prompt: loadGraph('a/b/u.png', `p${n}`) })),
    )
    for (const { promptId } of prompts) expect(await resultOf(url, promptId)).toBe(7)
    for (const worker of workers) {
      expect(worker.ledger.requests.filter(({ path }) => path === '/upload/image')).toHaveLength(1)
      expect(worker.files.get('input', 'a/b', 'u.png')?.bytes).toEqual(png(7))
    }
  })

  it('goes beside a file of the worker that has its name, is run from there, and keeps its name for the client', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    workers[0]?.files.put('input', '', 'mine.png', png(1))
    await upload(url, 'mine.png', png(2))
    const { promptId } = await submit(url, { prompt: loadGraph('mine.png') })
    const entry = await finished(url, promptId)
    expect(await colourAt(imageOf(entry).url)).toBe(2)
    expect(workers[0]?.files.get('input', '', 'mine.png')?.bytes).toEqual(png(1))
    expect(entry.prompt[2]).toEqual(loadGraph('mine.png'))
    // The worker knows it by another name, also in what it says of a failure.
    workers[0]?.files.put('input', '', 'mine FAIL.png', png(1))
    await upload(url, 'mine FAIL.png', png(2))
    const failed = await submit(url, { prompt: loadGraph('mine FAIL.png') })
    const text = JSON.stringify((await finished(url, failed.promptId)).status)
    expect(text).toContain('"mine FAIL.png"')
    expect(text).not.toMatch(/[0-9a-f]{12}-mine/)
    expect(workers[0]?.files.topLevel('input').filter((name) => /^[0-9a-f]{12}-mine/.test(name))).toHaveLength(2)
  })

  it('that is the worker’s own and was never uploaded is left to the worker', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    workers[1]?.files.put('input', '', 'only-there.png', png(4))
    await fetch(`${url}/object_info`)
    const { promptId, status } = await submit(url, { prompt: loadGraph('only-there.png') })
    expect(status).toBe(200)
    expect(await resultOf(url, promptId)).toBe(4)
  })

  it('is found with its annotation, in other areas, and with a backslash', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url } = fleet
    await upload(url, 'x.png', png(1))
    await upload(url, 'x.png', png(2), { type: 'temp' })
    await upload(url, 'x.png', png(3), { type: 'output', subfolder: 's' })
    await upload(url, 'x.png', png(4), { subfolder: 'b' })
    for (const [literal, colour] of [
      ['x.png', 1],
      ['x.png [input]', 1],
      ['x.png [temp]', 2],
      ['s/x.png [output]', 3],
      ['b\\x.png', 4],
      ['./b/x.png', 4],
    ] as const) {
      const { promptId, text } = await submit(url, { prompt: loadGraph(literal) })
      expect(promptId, text).not.toBe('')
      expect([literal, await resultOf(url, promptId)]).toEqual([literal, colour])
    }
  })

  it('is brought to another worker when the one that has it dies before the run', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    await upload(url, 'u.png', png(6))
    const first = await submit(url, { prompt: loadGraph('u.png', 'first') })
    expect(await resultOf(url, first.promptId)).toBe(6)
    const [holder] = ran(workers, first.promptId)
    await holder?.kill()
    const second = await submit(url, { prompt: loadGraph('u.png', 'second') })
    expect(second.status).toBe(200)
    expect(await resultOf(url, second.promptId)).toBe(6)
    expect(ran(workers, second.promptId)).not.toContain(holder)
  })

  it('is brought again to a worker that has lost its disk', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    await upload(url, 'u.png', png(6))
    expect(await resultOf(url, (await submit(url, { prompt: loadGraph('u.png') })).promptId)).toBe(6)
    workers[0]?.files.wipe() // Without a word: the worker stays up.
    const again = await submit(url, { prompt: loadGraph('u.png', 'again') })
    expect(again.status).toBe(200)
    expect(await resultOf(url, again.promptId)).toBe(6)
    await workers[0]?.restart({ wipeDisk: true })
    await until(() => gateway.workers()[0]?.isUp)
    expect(await resultOf(url, (await submit(url, { prompt: loadGraph('u.png', 'third') })).promptId)).toBe(6)
  })

  it('that cannot be brought counts as an attempt that was never sent', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    await upload(url, 'u.png', png(6))
    for (const worker of workers) worker.faults.set('POST /upload/image', { kind: 'reset-before' }, { times: 1 })
    const { promptId } = await submit(url, { prompt: loadGraph('u.png') })
    expect(await resultOf(url, promptId)).toBe(6)
    const runs = workers.flatMap(({ ledger }) => ledger.runs.filter((run) => run.promptId === promptId))
    expect(runs).toHaveLength(1)
  })

  it('of a prompt that waits outlives a restart of the gateway', async () => {
    const worker = await createSimulatedWorker()
    const dataDir = await mkdtemp(join(tmpdir(), 'comfyfleet-'))
    onTestFinished(async () => {
      await worker.close()
      await rm(dataDir, { recursive: true, force: true })
    })
    const options = { dataDir, running: [worker], env: { STORE: 'sqlite' } }
    fleet = await buildTestGateway(options)
    await submit(fleet.url, { prompt: pictureGraph({ sleepS: 1 }) })
    await submit(fleet.url, { prompt: pictureGraph({ sleepS: 0.5, colour: 1 }) })
    const promptId = await uploadAndSubmit(fleet.url, 11)
    await upload(fleet.url, 'input.png', png(12), { overwrite: 'true' })
    await fleet.close()
    fleet = await buildTestGateway(options)
    expect(await historyOf(fleet.url, promptId)).toBeUndefined()
    expect(await resultOf(fleet.url, promptId)).toBe(11)
  })
})

describe('an output that a later prompt names', () => {
  it('is brought to whichever worker runs it', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    const made = await submit(url, { prompt: pictureGraph({ colour: 5 }) })
    const image = imageOf(await finished(url, made.promptId))
    const [maker] = ran(workers, made.promptId)
    // Its maker is busy, so that the other one has to run it.
    const busy = fleet.gateway.workers().find(({ config }) => config.url === maker?.url)
    await fetch(`${url}/api/workers/${busy?.id}`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ enabled: false }),
    })
    for (const literal of [`${image.subfolder}/${image.filename} [output]`, `${image.filename} [output]`]) {
      const { promptId, text } = await submit(url, { prompt: loadGraph(literal, 'from-output') })
      expect(promptId, text).not.toBe('')
      expect(await resultOf(url, promptId)).toBe(5)
      expect(ran(workers, promptId)).not.toContain(maker)
    }
  })
})
