import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { SocketClient } from '../relay/socket-client.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, historyOf, pictureGraph, queueOf, submit } from '../support/comfy-client.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

const withCheckpoint = (name: string) => ({
  '1': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: name } },
  '2': { class_type: 'EmptyLatentImage', inputs: { width: 64, height: 64, batch_size: 1 } },
  '3': { class_type: 'VAEDecode', inputs: { samples: ['2', 0], vae: ['1', 2] } },
  '4': { class_type: 'SaveImage', inputs: { images: ['3', 0], filename_prefix: 'ckpt' } },
})

describe('what is refused', () => {
  it('answers an unknown class, a missing input and an empty graph as ComfyUI does, and keeps nothing', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    const unknown = await submit(url, { prompt: { '1': { class_type: 'Nope', inputs: {} } } })
    expect([unknown.status, JSON.parse(unknown.text).error.type]).toEqual([400, 'invalid_prompt'])
    const missing = await submit(url, {
      prompt: { '1': { class_type: 'SaveImage', inputs: { filename_prefix: 'x' } } },
    })
    expect([missing.status, JSON.parse(missing.text).error.type]).toEqual([400, 'prompt_outputs_failed_validation'])
    const empty = await submit(url, { prompt: {} })
    expect([empty.status, JSON.parse(empty.text).error.type]).toEqual([400, 'prompt_no_outputs'])
    const none = await submit(url, { client_id: 'c' })
    expect([none.status, JSON.parse(none.text).error.type]).toEqual([400, 'no_prompt'])
    const broken = await submit(url, '{"prompt": ')
    expect([broken.status, broken.text]).toEqual([500, '500 Internal Server Error\n\nServer got itself in trouble'])
    expect(workers[0]?.ledger.requestsOf('POST /prompt')).toEqual([])
    expect(await queueOf(url)).toMatchObject({ queue_running: [], queue_pending: [] })
  })

  it('refuses bad UTF-8, JSON that is nested too deeply, and a body over the limit', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { MAX_BODY_BYTES: '2000000' } })
    const { url } = fleet
    const post = async (body: string | Uint8Array) => (await fetch(`${url}/prompt`, { method: 'POST', body })).status
    expect(await post(new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]))).toBe(400)
    expect(await post(`{"prompt": ${'['.repeat(10_000)}${']'.repeat(10_000)}}`)).toBe(400)
    expect(await post('x'.repeat(2_000_001))).toBe(413)
  })

  it("relays an idle worker's own 400 and forgets the prompt", async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers } = fleet
    // An input file is never judged here, only by the worker.
    const graph = {
      '1': { class_type: 'LoadImage', inputs: { image: 'nope.png' } },
      '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'x' } },
    }
    const answer = await submit(url, { prompt: graph, prompt_id: '5b0b1a52-7d0b-4a2b-9b39-3b4b5c6d7e8f' })
    expect(answer.status).toBe(400)
    expect(answer.text).toContain('nope.png')
    expect(workers[0]?.ledger.requestsOf('POST /prompt')).toHaveLength(1)
    expect(await queueOf(url)).toMatchObject({ queue_running: [], queue_pending: [] })
    const tasks = await fetch(`${url}/api/jobs/5b0b1a52-7d0b-4a2b-9b39-3b4b5c6d7e8f`)
    expect(tasks.status).toBe(404)
  })

  it('ends as a failed prompt what a worker refuses after the 200', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    await submit(url, { prompt: pictureGraph({ sleepS: 0.3 }) })
    const graph = {
      '1': { class_type: 'LoadImage', inputs: { image: 'nope.png' } },
      '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'x' } },
    }
    const { status, promptId } = await submit(url, { prompt: graph, client_id: 'c' })
    expect(status).toBe(200)
    const entry = await finished(url, promptId)
    expect(entry.status.status_str).toBe('error')
    expect(entry.status.messages.at(-1)?.[1]).toMatchObject({
      exception_type: 'refused_by_worker',
      exception_message: expect.stringContaining('nope.png'),
    })
    await client.untilTold(`executing ${promptId}:null`)
    expect(client.plot).toEqual([
      `execution_start ${promptId}`,
      `execution_error ${promptId}`,
      `executing ${promptId}:null`,
    ])
    await client.leave()
  })

  it('answers 200 with node_errors when one of two outputs is valid', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const graph = { ...pictureGraph(), '9': { class_type: 'SaveImage', inputs: { filename_prefix: 'x' } } }
    const answer = await submit(url, { prompt: graph })
    expect(answer.status).toBe(200)
    expect(Object.keys(JSON.parse(answer.text).node_errors)).toEqual(['9'])
    expect((await finished(url, answer.promptId)).prompt[4]).toEqual(['2'])
  })

  it('answers 503 with Retry-After when the queue is full', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { MAX_QUEUE: '1' } })
    const { url } = fleet
    const accepted = []
    for (let n = 0; n < 3; n++) accepted.push(await submit(url, { prompt: pictureGraph({ colour: n, sleepS: 0.3 }) }))
    expect(accepted.map(({ status }) => status)).toEqual([200, 200, 200])
    const response = await fetch(`${url}/prompt`, { method: 'POST', body: JSON.stringify({ prompt: pictureGraph() }) })
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await response.json()).toMatchObject({ error: { type: 'queue_full' }, node_errors: {} })
  })
})

describe('the same prompt id again', () => {
  it('runs once when the body is the same, and tells its end again', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    const body = { prompt: pictureGraph({ sleepS: 0.1 }), prompt_id: 'my-own-id', client_id: 'c' }
    const [first, second] = await Promise.all([submit(url, body), submit(url, body)])
    expect([first.status, second.status]).toEqual([200, 200])
    expect(JSON.parse(first.text).number).toBe(JSON.parse(second.text).number)
    await finished(url, 'my-own-id')
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    expect((await submit(url, body)).status).toBe(200)
    await client.untilTold('executing my-own-id:null')
    expect(workers.flatMap(({ ledger }) => ledger.runs)).toHaveLength(1)
    await client.leave()
  })

  it('is refused with another body', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    await submit(url, { prompt: pictureGraph(), prompt_id: 'x' })
    const other = await submit(url, { prompt: pictureGraph({ colour: 1 }), prompt_id: 'x' })
    expect([other.status, JSON.parse(other.text).error.type]).toEqual([400, 'prompt_id_in_use'])
  })

  it('runs again and replaces its history once the time for repeats is over', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { IDEMPOTENCY_SECONDS: '0' } })
    const { url, workers } = fleet
    const id = '5b0b1a52-7d0b-4a2b-9b39-3b4b5c6d7e8f'
    await submit(url, { prompt: pictureGraph({ colour: 1 }), prompt_id: id })
    const first = await finished(url, id)
    await until(() => Date.now() > (first.status.messages.at(-1)?.[1].timestamp as number) + 5)
    expect((await submit(url, { prompt: pictureGraph({ colour: 2 }), prompt_id: id })).status).toBe(200)
    const second = await until(async () => {
      const entry = await historyOf(url, id)
      return entry && JSON.stringify(entry) !== JSON.stringify(first) ? entry : undefined
    })
    expect(second.prompt[2]).toMatchObject({ '1': { inputs: { color: 2 } } })
    expect(workers[0]?.ledger.runs).toHaveLength(2)
  })
})

describe('which worker can run it', () => {
  it('sends a prompt only to the worker that lists its checkpoint', async () => {
    fleet = await buildTestGateway({
      workers: [{ models: { checkpoints: ['a.safetensors'] } }, { models: { checkpoints: ['b.safetensors'] } }],
    })
    const { url, workers } = fleet
    for (let n = 0; n < 4; n++) {
      const { status, promptId } = await submit(url, { prompt: withCheckpoint('b.safetensors') })
      expect(status).toBe(200)
      await finished(url, promptId)
    }
    expect(workers.map(({ ledger }) => ledger.requestsOf('POST /prompt').length)).toEqual([0, 4])
  })

  it("spells a model in a folder as the chosen worker does, and shows the client's own spelling", async () => {
    fleet = await buildTestGateway({ workers: [{ models: { checkpoints: ['sdxl\\a.safetensors'] } }] })
    const { url, workers } = fleet
    const { promptId } = await submit(url, { prompt: withCheckpoint('sdxl/a.safetensors') })
    const entry = await finished(url, promptId)
    expect(entry.status.status_str).toBe('success')
    expect(workers[0]?.ledger.requestsOf('POST /prompt')[0]?.body).toContain('sdxl\\\\a.safetensors')
    expect(entry.prompt[2]).toMatchObject({ '1': { inputs: { ckpt_name: 'sdxl/a.safetensors' } } })
  })

  it('refuses a checkpoint that no worker ever had, and lets one wait whose worker is away', async () => {
    fleet = await buildTestGateway({
      workers: [{ models: { checkpoints: ['a.safetensors'] } }, { models: { checkpoints: ['b.safetensors'] } }],
    })
    const { url, workers, gateway } = fleet
    const never = await submit(url, { prompt: withCheckpoint('c.safetensors') })
    expect(never.status).toBe(400)
    expect(never.text).toContain('value_not_in_list')
    workers[1]?.kill()
    await until(() => gateway.workers().some(({ state }) => state.kind === 'down'))
    const { status, promptId } = await submit(url, { prompt: withCheckpoint('b.safetensors') })
    expect(status).toBe(200)
    expect((await queueOf(url)).queue_pending.map(([, id]) => id)).toEqual([promptId])
    await workers[1]?.restart()
    expect((await finished(url, promptId)).status.status_str).toBe('success')
  })

  it('tries another worker when one has lost a model that it listed', async () => {
    fleet = await buildTestGateway({
      workers: [{ models: { checkpoints: ['a.safetensors'] } }, { models: { checkpoints: ['a.safetensors'] } }],
    })
    const { url, workers } = fleet
    workers[0]?.catalogue.setModels({})
    const answers = await Promise.all([1, 2].map(() => submit(url, { prompt: withCheckpoint('a.safetensors') })))
    for (const { status, promptId } of answers) {
      expect(status).toBe(200)
      expect((await finished(url, promptId)).status.status_str).toBe('success')
    }
    expect(workers[1]?.ledger.runs).toHaveLength(2)
  })

  it('runs a prompt that was out of memory once more where there is more', async () => {
    fleet = await buildTestGateway({ workers: [{ vramBytes: 8 * 1024 ** 3 }, { vramBytes: 48 * 1024 ** 3 }] })
    const { url, workers } = fleet
    const graph = {
      ...pictureGraph(),
      '9': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'OOM24' } },
    }
    for (let n = 0; n < 2; n++) {
      const { promptId } = await submit(url, { prompt: { ...graph, '1': { ...graph['1'], _meta: { title: `${n}` } } } })
      expect((await finished(url, promptId)).status.status_str).toBe('success')
    }
    expect(workers[1]?.ledger.runs.filter(({ outcome }) => outcome === 'success')).toHaveLength(2)
    expect(workers[0]?.ledger.runs).toHaveLength(1)
  })
})

describe('partner keys', () => {
  it('reach the worker and rest nowhere in the open', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'comfyfleet-'))
    fleet = await buildTestGateway({ workers: 1, dataDir, env: { STORE: 'sqlite' } })
    const { url, workers } = fleet
    const secret = 'comfyui-0123456789-secret'
    const body = { prompt: pictureGraph({ sleepS: 0.3 }), extra_data: { api_key_comfy_org: secret, other: 1 } }
    const { promptId } = await submit(url, body)
    expect(JSON.stringify(await queueOf(url))).not.toContain(secret)
    expect(JSON.stringify(await finished(url, promptId))).not.toContain(secret)
    expect(workers[0]?.ledger.requestsOf('POST /prompt')[0]?.body).toContain(secret)
    for (const entry of await readdir(dataDir, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      // A copy of the output that is being written has another name a moment later.
      const bytes = await readFile(join(entry.parentPath, entry.name)).catch(() => Buffer.alloc(0))
      expect(bytes.includes(secret), entry.name).toBe(false)
    }
    await fleet.close()
    fleet = undefined
    await rm(dataDir, { recursive: true, force: true })
  })
})
