import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { decodeFrame } from '../../src/comfyui/frames.ts'
import { startSimulatedFleet } from '../../src/demo/fleet.ts'
import { readPng } from '../../src/demo/png.ts'
import {
  createSimulatedWorker,
  type SimulatedWorker,
  type SimulatedWorkerOptions,
} from '../../src/demo/simulated-worker.ts'
import { imagePrompt, samplerPrompt, sleepPrompt } from './prompts.ts'
import { Listener, post, send, until } from './raw-client.ts'

const open: SimulatedWorker[] = []

async function start(options: SimulatedWorkerOptions = {}): Promise<SimulatedWorker> {
  const worker = await createSimulatedWorker(options)
  open.push(worker)
  return worker
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((worker) => worker.close()))
})

const submit = async (worker: SimulatedWorker, prompt: object, more: object = {}): Promise<string> => {
  const answer = await post(worker.url, '/prompt', { prompt, client_id: 'A', ...more })
  expect(answer.status, answer.text).toBe(200)
  return JSON.parse(answer.text).prompt_id
}

const idle = (worker: SimulatedWorker) => until(() => worker.queueRemaining === 0, 'an idle worker')

const history = async (worker: SimulatedWorker, id: string) =>
  JSON.parse((await send(worker.url, { path: `/history/${id}` })).text)[id]

describe('a simulated worker', () => {
  it('makes a PNG whose size, colour and text come from the graph', async () => {
    const worker = await start()
    const id = await submit(worker, imagePrompt({ colour: 0x102030 }))
    await idle(worker)
    const [image] = (await history(worker, id)).outputs['2'].images
    expect(image).toEqual({ filename: 'T_00001_.png', subfolder: '', type: 'output' })
    const answer = await send(worker.url, { path: '/view?filename=T_00001_.png' })
    const png = readPng(answer.body)
    expect(png?.picture).toEqual({ width: 16, height: 8, colour: 0x102030 })
    expect(JSON.parse(png?.text.get('prompt') ?? '')).toEqual(imagePrompt({ colour: 0x102030 }))
    expect(worker.ledger.files.get('output/T_00001_.png')).toBe(id)
  })

  it('gives the same names on different workers', async () => {
    const fleet = await startSimulatedFleet(2)
    open.push(...fleet)
    for (const [index, worker] of fleet.entries()) await submit(worker, imagePrompt({ colour: index }))
    for (const worker of fleet) await idle(worker)
    expect(fleet.map((worker) => [...worker.ledger.files.keys()])).toEqual([
      ['output/T_00001_.png'],
      ['output/T_00001_.png'],
    ])
  })

  it('reports sampler steps and previews as type 4 to a client that takes them, before the progress message', async () => {
    const worker = await start({ models: { checkpoints: ['a.safetensors'] } })
    const listener = await Listener.open(worker.url, 'A')
    listener.ws.send(JSON.stringify({ type: 'feature_flags', data: { supports_preview_metadata: true } }))
    await until(() => listener.has('feature_flags'))
    const id = await submit(worker, samplerPrompt({ steps: 3 }))
    await listener.ended(id)
    const order = listener.seen.flatMap((each) => {
      if (!Buffer.isBuffer(each))
        return each.type === 'progress' ? [`progress ${each.data.value}/${each.data.max}`] : []
      const frame = decodeFrame(each)
      return frame?.kind === 'image-with-metadata'
        ? [`${frame.metadata.image_type} of ${frame.metadata.node_id}`]
        : ['?']
    })
    const preview = 'image/jpeg of 5'
    expect(order).toEqual([preview, 'progress 1/3', preview, 'progress 2/3', preview, 'progress 3/3'])
    await listener.close()
  })

  it('makes another picture for another text', async () => {
    const worker = await start({ models: { checkpoints: ['a.safetensors'] } })
    await submit(worker, samplerPrompt({ text: 'a cat' }))
    await submit(worker, samplerPrompt({ text: 'a dog' }))
    await idle(worker)
    const [cat, dog] = ['K_00001_.png', 'K_00002_.png'].map((name) => worker.files.get('output', '', name))
    expect(readPng(cat?.bytes ?? Buffer.alloc(0))?.picture).toMatchObject({ width: 64, height: 32 })
    expect(readPng(cat?.bytes ?? Buffer.alloc(0))?.picture).not.toEqual(readPng(dog?.bytes ?? Buffer.alloc(0))?.picture)
  })

  it('keeps a 64-bit seed and 1.0 in queue and history', async () => {
    const worker = await start({ models: { checkpoints: ['a.safetensors'] } })
    const text = JSON.stringify({ prompt: samplerPrompt({ seed: 12345 }), prompt_id: 'big' }).replace(
      '12345',
      '18446744073709551615',
    )
    await post(worker.url, '/prompt', text.replace('"denoise":1', '"denoise":1.0'))
    await idle(worker)
    const answer = await send(worker.url, { path: '/history/big' })
    expect(answer.text).toContain('"seed": 18446744073709551615')
    expect(answer.text).toContain('"denoise": 1.0')
  })

  it('uses a number up for a refused prompt', async () => {
    const worker = await start()
    expect((await post(worker.url, '/prompt', {})).status).toBe(400)
    const answer = await post(worker.url, '/prompt', { prompt: imagePrompt() })
    expect(JSON.parse(answer.text).number).toBe(1)
  })

  it.each([
    ['FAIL', 'RuntimeError'],
    ['OOM', 'torch.OutOfMemoryError'],
    ['OOM48', 'torch.OutOfMemoryError'],
  ])('fails at the marker %s', async (marker, type) => {
    const worker = await start({ models: { checkpoints: ['a.safetensors'] }, vramBytes: 24 * 1024 ** 3 })
    const listener = await Listener.open(worker.url, 'A')
    const id = await submit(worker, samplerPrompt({ text: `a cat ${marker}` }))
    await listener.ended(id)
    const [error] = listener.messages.filter((each) => each.type === 'execution_error')
    expect(error?.data).toMatchObject({ exception_type: type, node_id: '2', node_type: 'CLIPTextEncode' })
    expect((await history(worker, id)).status.status_str).toBe('error')
    expect(worker.ledger.runsOf(id).map((run) => run.outcome)).toEqual(['error'])
    await listener.close()
  })

  it('runs OOM16 with 24 GiB', async () => {
    const worker = await start({ models: { checkpoints: ['a.safetensors'] }, vramBytes: 24 * 1024 ** 3 })
    const id = await submit(worker, samplerPrompt({ text: 'OOM16 ZOOM FAILED' }))
    await idle(worker)
    expect((await history(worker, id)).status.status_str).toBe('success')
  })

  it('interrupts a tar pit, and by id only the prompt that runs', async () => {
    const worker = await start()
    const id = await submit(worker, imagePrompt({ prefix: 'TARPIT' }))
    await until(() => worker.ledger.runsOf(id).length === 1)
    await post(worker.url, '/interrupt', { prompt_id: 'another' })
    expect(worker.queueRemaining).toBe(1)
    await post(worker.url, '/interrupt', { prompt_id: id })
    await idle(worker)
    expect((await history(worker, id)).status.messages.at(-1)[0]).toBe('execution_interrupted')
  })

  it('dies of poison and comes back empty on the same port, with its outputs', async () => {
    const worker = await start({ models: { checkpoints: ['a.safetensors'] } })
    await submit(worker, imagePrompt())
    await idle(worker)
    // Holds the poison back until all is posted.
    await submit(worker, sleepPrompt(0.1))
    const id = await submit(worker, samplerPrompt({ text: 'POISON' }))
    await submit(worker, imagePrompt({ colour: 2 }))
    await until(() => !worker.isListening)
    await expect(send(worker.url, { path: '/queue' })).rejects.toThrow()
    expect(worker.ledger.runsOf(id).map((run) => run.outcome)).toEqual(['killed'])
    await worker.start()
    expect((await send(worker.url, { path: '/history' })).text).toBe('{}')
    expect((await send(worker.url, { path: '/queue' })).text).toBe('{"queue_running": [], "queue_pending": []}')
    expect((await send(worker.url, { path: '/view?filename=T_00001_.png' })).status).toBe(200)
  })

  it('loses temp files at a restart, and all files when its disk is wiped', async () => {
    const worker = await start()
    const preview = { ...imagePrompt(), '3': { class_type: 'PreviewImage', inputs: { images: ['1', 0] } } }
    await submit(worker, preview)
    await idle(worker)
    const temp = [...worker.ledger.files.keys()].find((path) => path.startsWith('temp/')) ?? ''
    const viewTemp = { path: `/view?type=temp&filename=${temp.slice(5)}` }
    expect((await send(worker.url, viewTemp)).status).toBe(200)
    await worker.restart()
    expect((await send(worker.url, viewTemp)).status).toBe(404)
    expect((await send(worker.url, { path: '/view?filename=T_00001_.png' })).status).toBe(200)
    await worker.restart({ wipeDisk: true })
    expect((await send(worker.url, { path: '/view?filename=T_00001_.png' })).status).toBe(404)
    await submit(worker, imagePrompt())
    await idle(worker)
    expect(worker.files.get('output', '', 'T_00001_.png')).toBeDefined()
  })

  it('stands still while frozen, and then does what it was asked', async () => {
    const worker = await start()
    const listener = await Listener.open(worker.url, 'A')
    const id = await submit(worker, sleepPrompt(0.2))
    await until(() => listener.has('progress', id))
    worker.freeze()
    const late = post(worker.url, '/prompt', { prompt: imagePrompt(), prompt_id: 'late' })
    const abort = new AbortController()
    const unanswered = send(worker.url, { path: '/queue', signal: abort.signal })
    listener.ws.ping()
    let wasPonged = false
    listener.ws.on('pong', () => {
      wasPonged = true
    })
    const before = listener.seen.length
    // Longer than the sleep that runs: nothing may come of it.
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect([listener.seen.length, wasPonged, worker.queueRemaining]).toEqual([before, false, 1])
    abort.abort()
    await expect(unanswered).rejects.toThrow()
    worker.thaw()
    expect((await late).status).toBe(200)
    await listener.ended(id)
    await until(() => wasPonged, 'a pong')
    await idle(worker)
    expect(worker.ledger.runsOf('late').length).toBe(1)
    await listener.close()
  })

  it('does not run after its death what it was asked while frozen', async () => {
    const worker = await start()
    worker.freeze()
    const lost = post(worker.url, '/prompt', { prompt: imagePrompt(), prompt_id: 'lost' })
    const failed = expect(lost).rejects.toThrow()
    // Until its bytes are at the worker's side.
    await until(() => worker.waitingRequests === 1, 'a waiting request')
    await worker.restart()
    await failed
    const answer = await send(worker.url, { path: '/prompt' })
    expect(JSON.parse(answer.text).exec_info.queue_remaining).toBe(0)
    expect(worker.ledger.runsOf('lost')).toEqual([])
  })

  it('forgets queue and history and stays up', async () => {
    const worker = await start()
    const done = await submit(worker, imagePrompt())
    await idle(worker)
    const listener = await Listener.open(worker.url, 'A')
    const running = await submit(worker, sleepPrompt(60))
    await until(() => listener.has('progress', running))
    const before = listener.messages.length
    worker.forget()
    expect(await history(worker, done)).toBeUndefined()
    expect((await send(worker.url, { path: '/queue' })).text).toBe('{"queue_running": [], "queue_pending": []}')
    expect(worker.ledger.runsOf(running).map((run) => run.outcome)).toEqual(['killed'])
    expect(
      listener.messages.slice(before).filter(({ type }) => type !== 'progress' && type !== 'progress_state'),
    ).toEqual([])
    await listener.close()
  })

  it('deafens a newer socket when the older one with its id closes', async () => {
    const worker = await start()
    const older = await Listener.open(worker.url, 'A')
    const newer = await Listener.open(worker.url, 'A')
    const first = await submit(worker, imagePrompt({ colour: 1 }))
    await newer.ended(first)
    expect(older.has('execution_start')).toBe(false)
    await older.close()
    await until(() => worker.openSockets === 1)
    const second = await submit(worker, imagePrompt({ colour: 2 }))
    await idle(worker)
    const answer = await history(worker, second)
    expect(answer.status.completed).toBe(true)
    expect(newer.has('execution_start', second)).toBe(false)
    await newer.close()
  })

  it('cuts sockets and goes on with its work', async () => {
    const worker = await start()
    const listener = await Listener.open(worker.url, 'A')
    const id = await submit(worker, sleepPrompt(0.1))
    const closed = once(listener.ws, 'close')
    worker.killSockets()
    await closed
    await idle(worker)
    expect((await history(worker, id)).status.completed).toBe(true)
  })

  it('says nothing while muted', async () => {
    const worker = await start()
    const listener = await Listener.open(worker.url, 'A')
    worker.mute()
    const quiet = await submit(worker, imagePrompt({ colour: 1 }))
    await idle(worker)
    worker.unmute()
    const loud = await submit(worker, imagePrompt({ colour: 2 }))
    await listener.ended(loud)
    expect(listener.messages.some(({ data }) => data.prompt_id === quiet)).toBe(false)
    await listener.close()
  })

  it('asks for credentials everywhere, the websocket included', async () => {
    const worker = await start({ auth: { username: 'u', password: 'p' } })
    expect((await send(worker.url, { path: '/queue' })).status).toBe(401)
    const authorization = `Basic ${Buffer.from('u:p').toString('base64')}`
    expect((await send(worker.url, { path: '/queue', headers: { authorization } })).status).toBe(200)
    const stranger = new Listener(worker.url, 'A')
    const [, refused] = await once(stranger.ws, 'unexpected-response')
    expect(refused.statusCode).toBe(401)
    stranger.ws.terminate()
    const known = new Listener(worker.url, 'A', { authorization })
    await until(() => known.has('status'))
    await known.close()
  })

  it('has the classes and models it is given', async () => {
    const worker = await start({
      models: { checkpoints: ['a.safetensors'], loras: ['x.safetensors'] },
      missingClasses: ['ImageScale'],
      extraClasses: [{ name: 'PaidUpscale', apiNode: true, outputNode: true, ui: { gifs: [] } }],
    })
    const info = JSON.parse((await send(worker.url, { path: '/object_info' })).text)
    expect(info.CheckpointLoaderSimple.input.required.ckpt_name[0]).toEqual(['a.safetensors'])
    expect(info.ImageScale).toBeUndefined()
    expect(info.PaidUpscale.api_node).toBe(true)
    worker.catalogue.setModels({ checkpoints: ['b.safetensors'] })
    expect((await send(worker.url, { path: '/api/models/checkpoints' })).text).toBe('["b.safetensors"]')
    const id = await submit(worker, { '1': { class_type: 'PaidUpscale', inputs: {} } })
    await idle(worker)
    expect((await history(worker, id)).outputs).toEqual({ '1': { gifs: [] } })
  })

  it('refuses bodies over 100 MB with 413 and nonsense with 500', async () => {
    const worker = await start()
    const big = await post(worker.url, '/prompt', ' '.repeat(104_857_601))
    expect([big.status, big.text]).toEqual([413, 'Maximum request body size 104857600 exceeded.'])
    const deep = await post(worker.url, '/prompt', `{"prompt":${'['.repeat(100_000)}`)
    expect(deep.status).toBe(500)
    const badUtf8 = await send(worker.url, { method: 'POST', path: '/prompt', body: Buffer.from([0x7b, 0xff, 0x7d]) })
    expect(badUtf8.status).toBe(500)
  })

  it('finds a cycle at run time', async () => {
    const worker = await start()
    const scale = (from: string) => ({
      class_type: 'ImageScale',
      inputs: { image: [from, 0], upscale_method: 'area', width: 8, height: 8, crop: 'disabled' },
    })
    const id = await submit(worker, { ...imagePrompt(), '1': scale('3'), '3': scale('1') })
    await idle(worker)
    const [type, data] = (await history(worker, id)).status.messages.at(-1)
    expect([type, data.exception_message]).toEqual(['execution_error', 'Dependency cycle detected\n'])
  })

  it('runs as a process of its own, keeps its outputs in a folder and ends on SIGTERM', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'simulated-worker-'))
    const run = async () => {
      const script = fileURLToPath(new URL('../../src/demo/worker-main.ts', import.meta.url))
      const child = spawn(process.execPath, [
        '--import',
        'tsx',
        script,
        '--port',
        '0',
        '--version',
        '2026',
        '--folder',
        folder,
      ])
      const [line] = await once(createInterface({ input: child.stdout }), 'line')
      return { child, url: JSON.parse(line).url as string }
    }
    const first = await run()
    const listener = await Listener.open(first.url, 'A')
    const answer = await post(first.url, '/prompt', { prompt: imagePrompt(), client_id: 'A' })
    await listener.ended(JSON.parse(answer.text).prompt_id)
    const ended = once(first.child, 'exit')
    first.child.kill('SIGTERM')
    expect(await ended).toEqual([0, null])
    const second = await run()
    expect((await send(second.url, { path: '/view?filename=T_00001_.png' })).status).toBe(200)
    const poisoned = once(second.child, 'exit')
    await post(second.url, '/prompt', { prompt: imagePrompt({ prefix: 'POISON' }) }).catch(() => undefined)
    expect(await poisoned).toEqual([1, null])
    await rm(folder, { recursive: true })
  })
})

describe('a simulated worker of 2026', () => {
  it('takes canonical UUIDs only', async () => {
    const worker = await start({ version: '2026' })
    const refused = await post(worker.url, '/prompt', { prompt: imagePrompt(), prompt_id: 'mine' })
    expect([refused.status, JSON.parse(refused.text).error.type]).toEqual([400, 'invalid_prompt_id'])
    const minted = await post(worker.url, '/prompt', { prompt: imagePrompt(), prompt_id: null })
    expect(minted.status).toBe(200)
  })

  it('names a missing class as such', async () => {
    const worker = await start({ version: '2026' })
    const answer = await post(worker.url, '/prompt', { prompt: { '1': { class_type: 'Nope', inputs: {} } } })
    expect(JSON.parse(answer.text).error).toMatchObject({
      type: 'missing_node_type',
      extra_info: { node_id: '1', class_type: 'Nope', node_title: null },
    })
  })

  it('hides keys in the queue, where 0.3.64 shows them, and stamps create_time', async () => {
    const queues: string[] = []
    for (const version of ['2026', '0.3.64'] as const) {
      const worker = await start({ version })
      const secret = { extra_data: { api_key_comfy_org: 'secret', create_time: 1 } }
      const id = await submit(worker, sleepPrompt(60), secret)
      await until(() => worker.ledger.runsOf(id).length === 1)
      queues.push((await send(worker.url, { path: '/queue' })).text)
    }
    const [of2026 = '', of2025 = ''] = queues
    expect([of2026.includes('secret'), of2025.includes('secret')]).toEqual([false, true])
    expect(JSON.parse(of2026).queue_running[0][3].create_time).toBeGreaterThan(1)
    expect(JSON.parse(of2026).queue_running[0]).toHaveLength(5)
  })

  it('refuses cross-site requests', async () => {
    const worker = await start({ version: '2026' })
    const answer = await send(worker.url, { path: '/queue', headers: { 'sec-fetch-site': 'cross-site' } })
    expect([answer.status, answer.text]).toEqual([403, ''])
  })

  it('lists and cancels jobs under /api only', async () => {
    const worker = await start({ version: '2026' })
    const done = await submit(worker, imagePrompt())
    await idle(worker)
    const running = await submit(worker, sleepPrompt(60))
    const waiting = await submit(worker, imagePrompt({ colour: 2 }))
    await until(() => worker.ledger.runsOf(running).length === 1)
    const list = async (query: string) => JSON.parse((await send(worker.url, { path: `/api/jobs?${query}` })).text)
    const all = await list('sort_order=asc')
    expect(all.jobs.map((job: { id: string; status: string }) => [job.id, job.status]).toSorted()).toEqual(
      [
        [done, 'completed'],
        [running, 'in_progress'],
        [waiting, 'pending'],
      ].toSorted(),
    )
    expect((await list('status=completed')).jobs[0]).toMatchObject({
      outputs_count: 1,
      preview_output: { filename: 'T_00001_.png', subfolder: '', type: 'output', nodeId: '2', mediaType: 'images' },
    })
    expect((await list('limit=1')).pagination).toEqual({ offset: 0, limit: 1, total: 3, has_more: true })
    expect((await send(worker.url, { path: '/api/jobs?limit=0' })).status).toBe(400)
    expect((await send(worker.url, { path: '/jobs' })).status).toBe(404)
    expect((await send(worker.url, { path: '/api/jobs/nope' })).text).toBe('{"error": "Job not found"}')
    expect((await post(worker.url, '/api/jobs/cancel', { job_ids: [waiting, running] })).text).toBe(
      '{"cancelled": true}',
    )
    await idle(worker)
    expect(JSON.parse((await send(worker.url, { path: `/api/jobs/${running}` })).text).status).toBe('cancelled')
    expect(worker.ledger.runsOf(waiting)).toEqual([])
  })
})
