import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { encodePng } from '../demo/png.ts'
import { type GatewayAnswer, type GatewayCall, json, objectIn } from './gateway-call.ts'
import { type PictureFacts, readPicture } from './picture.ts'

/** How one check ended. What could not be tried says why and is no failure. */
export interface Check {
  result: 'ok' | 'failed' | 'skipped'
  reason: string | null
}

/** What a worker was found to do, when it was used through the gateway as a client would. */
export interface WorkerTest {
  worker_id: string
  name: string
  url: string
  /** No check failed. */
  ok: boolean
  version: string | null
  latency_ms: number | null
  checks: {
    /** It answers as ComfyUI does. */
    reachable: Check
    /** It takes the credentials that the gateway has for it. */
    auth: Check
    /** A workflow without a model ran there. */
    ran: Check
    /** Its picture came back and is the right one. */
    picture: Check
    /** A picture that was uploaded came back through a workflow. */
    upload: Check
  }
}

export interface WorkerTestOptions {
  call: GatewayCall
  workerId: string
  /** Milliseconds for one workflow, its wait for a busy worker included. */
  runTimeoutMs: number
}

const SIZE = { width: 24, height: 16 }
const POLL_MS = 100
const PREFIX = 'comfyfleet-verify'
const REFUSED = /\b(401|403|407)\b/

/**
 * Tests one worker through its gateway: its health, a workflow, and an upload. What it leaves is one or two small
 * pictures among the worker's outputs. Rejects when the gateway itself does not answer.
 */
export async function testWorker({ call, workerId, runTimeoutMs }: WorkerTestOptions): Promise<WorkerTest> {
  const answer = await call({ method: 'POST', path: `/api/workers/${encodeURIComponent(workerId)}/health` })
  if (answer.status !== 200) throw new Error(`the gateway answered ${answer.status}: ${messageIn(answer)}`)
  const view = objectIn(answer)
  const health = recordOf(view.check)
  const reason = textOf(health.reason)
  const isReached = health.healthy === true
  const isRefused = !isReached && REFUSED.test(reason ?? '')
  const test: WorkerTest = {
    worker_id: workerId,
    name: textOf(view.name) ?? workerId,
    url: textOf(view.url) ?? '',
    ok: false,
    version: textOf(view.version),
    latency_ms: typeof view.latency_ms === 'number' ? view.latency_ms : null,
    checks: {
      reachable: isReached || isRefused ? ok : failed(reason ?? 'it does not answer'),
      auth: isReached ? ok : isRefused ? failed(reason ?? 'refused') : skipped('it was not reached'),
      ran: skipped('it cannot be used'),
      picture: skipped('nothing ran'),
      upload: skipped('nothing ran'),
    },
  }
  const { checks } = test
  if (view.enabled === false) checks.ran = skipped('it is not enabled')
  else if (view.draining === true) checks.ran = skipped('it is being drained')
  else if (isReached) await runThrough({ call, workerId, runTimeoutMs }, checks)
  test.ok = Object.values(checks).every(({ result }) => result !== 'failed')
  return test
}

async function runThrough(options: WorkerTestOptions, checks: WorkerTest['checks']): Promise<void> {
  const colour = randomInt(0x1000000)
  const drawn = await run(options, {
    1: { class_type: 'EmptyImage', inputs: { ...SIZE, batch_size: 1, color: colour } },
    2: { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: PREFIX } },
  })
  checks.ran = drawn.ran
  checks.picture = comparePicture(drawn, { ...SIZE, colour })
  if (drawn.ran.result === 'ok') checks.upload = await testUpload(options)
}

async function testUpload(options: WorkerTestOptions): Promise<Check> {
  const colour = randomInt(0x1000000)
  const form = new FormData()
  const name = `${PREFIX}-${randomUUID().slice(0, 8)}.png`
  form.set('image', new Blob([new Uint8Array(encodePng({ ...SIZE, colour }))], { type: 'image/png' }), name)
  form.set('overwrite', 'true')
  const encoded = new Response(form)
  const type = encoded.headers.get('content-type') ?? ''
  const body = { type, bytes: Buffer.from(await encoded.arrayBuffer()) }
  const answer = await options.call({ method: 'POST', path: '/upload/image', body })
  if (answer.status === 404 || answer.status === 405) return skipped('uploads are not available')
  const uploaded = objectIn(answer)
  const given = textOf(uploaded.name)
  if (answer.status !== 200 || given === null) return failed(`the upload was answered ${answer.status}`)
  const folder = textOf(uploaded.subfolder)
  const loaded = await run(options, {
    1: { class_type: 'LoadImage', inputs: { image: folder ? `${folder}/${given}` : given } },
    2: { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: PREFIX } },
  })
  return loaded.ran.result === 'ok' ? comparePicture(loaded, { ...SIZE, colour }) : loaded.ran
}

interface Run {
  ran: Check
  picture: GatewayAnswer | undefined
}

/** Runs a graph on the worker and fetches the picture of its node 2. */
async function run({ call, workerId, runTimeoutMs }: WorkerTestOptions, prompt: object): Promise<Run> {
  const nothing = (reason: string): Run => ({ ran: failed(reason), picture: undefined })
  const path = `/prompt?worker=${encodeURIComponent(workerId)}`
  const submitted = await call({ method: 'POST', path, body: json({ prompt }) })
  const promptId = textOf(objectIn(submitted).prompt_id)
  if (submitted.status !== 200 || promptId === null) {
    return nothing(`the workflow was refused (${submitted.status}): ${messageIn(submitted)}`)
  }
  const entry = await endOf(call, promptId, runTimeoutMs)
  const task = objectIn(await call({ method: 'GET', path: `/api/task/${promptId}/status` }))
  if (!entry) {
    await call({ method: 'POST', path: '/queue', body: json({ delete: [promptId] }) })
    await call({ method: 'POST', path: '/interrupt', body: json({ prompt_id: promptId }) })
    const seconds = Math.round(runTimeoutMs / 1_000)
    return nothing(`it did not end within ${seconds} s: ${textOf(task.message) ?? textOf(task.status) ?? 'unknown'}`)
  }
  const status = textOf(recordOf(entry.status).status_str)
  if (status !== 'success') return nothing(`the workflow failed: ${textOf(task.message) ?? 'no reason was given'}`)
  if (textOf(task.worker_id) !== workerId) return nothing(`it ran on ${textOf(task.worker_name) ?? 'another worker'}`)
  const images: unknown = recordOf(recordOf(entry.outputs)['2']).images
  const file = recordOf(Array.isArray(images) ? images[0] : undefined)
  const query = new URLSearchParams({ prompt_id: promptId })
  for (const name of ['filename', 'subfolder', 'type']) query.set(name, textOf(file[name]) ?? '')
  const picture = await call({ method: 'GET', path: `/view?${query}` })
  await call({ method: 'POST', path: '/history', body: json({ delete: [promptId] }) })
  return { ran: ok, picture }
}

async function endOf(call: GatewayCall, promptId: string, timeoutMs: number) {
  const deadline = performance.now() + timeoutMs
  do {
    const entry = objectIn(await call({ method: 'GET', path: `/history/${promptId}` }))[promptId]
    if (entry !== undefined) return recordOf(entry)
    await pause(POLL_MS)
  } while (performance.now() < deadline)
  return undefined
}

function comparePicture({ ran, picture }: Run, expected: PictureFacts): Check {
  if (ran.result !== 'ok' || !picture) return skipped('nothing ran')
  if (picture.status !== 200) return failed(`the picture was answered ${picture.status}`)
  try {
    const { width, height, colour } = readPicture(picture.body)
    if (width === expected.width && height === expected.height && colour === expected.colour) return ok
    return failed(`it is another picture: ${width} x ${height}, ${hex(colour)} instead of ${hex(expected.colour)}`)
  } catch {
    return failed('what came back is not a PNG')
  }
}

const ok: Check = { result: 'ok', reason: null }
const failed = (reason: string): Check => ({ result: 'failed', reason })
const skipped = (reason: string): Check => ({ result: 'skipped', reason })
const hex = (colour: number): string => `#${colour.toString(16).padStart(6, '0')}`
const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null)
const recordOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {} // Read by key, as unknown.

function messageIn(answer: GatewayAnswer): string {
  const { error, detail } = objectIn(answer)
  return textOf(recordOf(error).message) ?? textOf(detail) ?? 'no reason was given'
}
