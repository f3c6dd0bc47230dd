import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { until } from '../support/app.ts'
import {
  ClientSocket,
  clientFleet,
  expectAllWorked,
  expectOnlyOwn,
  fromUpload,
  type History,
  type Job,
  jsonOf,
  parse,
  pause,
  SocketEndedError,
  unequalJobs,
  uploadFor,
  viewAll,
} from './kit.ts'

const RECONNECT_ATTEMPTS = 5
const RECONNECT_DELAY_MS = 30
const fleet = clientFleet()

const isReachable = async (): Promise<boolean> => (await fetch(`${fleet.url}/`)).status === 200
const connect = (clientId: string): Promise<ClientSocket> =>
  ClientSocket.open(`ws://${fleet.host}/ws?clientId=${clientId}`)

/** With the same client id, as long as the server's root answers 200. */
async function reconnect(clientId: string): Promise<ClientSocket> {
  for (let attempt = 0; attempt < RECONNECT_ATTEMPTS; attempt++) {
    if (!(await isReachable())) throw new Error('ComfyUI HTTP unreachable during websocket reconnect')
    try {
      return await connect(clientId)
    } catch {
      await pause(RECONNECT_DELAY_MS)
    }
  }
  throw new Error('the websocket could not be connected again')
}

/** `onStart` gets the socket once its prompt runs, so that a test can cut it. */
async function handle(job: Job, onStart?: (socket: ClientSocket) => void): Promise<Buffer[]> {
  if (!(await isReachable())) throw new Error('ComfyUI server not reachable')
  const clientId = randomUUID()
  let socket = await connect(clientId)
  const answer = await fetch(`${fleet.url}/prompt`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: job.graph, client_id: clientId }),
  })
  const { prompt_id: id } = await jsonOf<{ prompt_id: string }>(answer)
  for (let isDone = false, isCut = false; !isDone; ) {
    try {
      const frame = await socket.next()
      if (typeof frame !== 'string') continue
      const { type, data } = parse(frame)
      if (type === 'executing' && data.node === null && data.prompt_id === id) isDone = true
      if (type === 'execution_error' && data.prompt_id === id) throw new Error(String(data.exception_message))
      if (type === 'executing' && data.node === '3' && !isCut) {
        isCut = true
        onStart?.(socket)
      }
    } catch (error) {
      if (!(error instanceof SocketEndedError)) throw error
      socket = await reconnect(clientId)
    }
  }
  const entry = (await jsonOf<History>(await fetch(`${fleet.url}/history/${id}`)))[id]
  if (entry === undefined) throw new Error(`Prompt ID ${id} not found in history after execution.`)
  await socket.close()
  return viewAll(fleet.url, entry.outputs)
}

it('returns each job its own pictures, six handlers at once', async () => {
  await Promise.all(unequalJobs(6).map(async (job) => expectOnlyOwn(job, await handle(job))))
  expectAllWorked(fleet)
})

it('gets the rest of a job whose socket broke in the middle', async () => {
  await Promise.all(
    unequalJobs(4).map(async (job) => expectOnlyOwn(job, await handle(job, (socket) => socket.terminate()))),
  )
})

it('runs each job on the picture that came with it, named as the job names it', async () => {
  const handlers = unequalJobs(6).map(async (job, at) => {
    const filename = `input_${at}.png`
    expect(
      await uploadFor(job, `${fleet.url}/upload/image`, { filename, fields: { overwrite: 'true' } }),
    ).toMatchObject({ name: filename })
    expectOnlyOwn(job, await handle(fromUpload(job, filename)))
  })
  await Promise.all(handlers)
})

it('reads from a refusal what is wrong with the workflow', async () => {
  const [job] = unequalJobs(1)
  if (!job) throw new Error('no job')
  Object.assign(job.graph['1']?.inputs ?? {}, { width: 0 })
  const answer = await fetch(`${fleet.url}/prompt`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: job.graph, client_id: 'c' }),
  })
  expect(answer.status).toBe(400)
  expect(await answer.json()).toMatchObject({
    error: { message: expect.any(String), details: expect.any(String) },
    node_errors: {
      '1': { class_type: 'EmptyImage', errors: [{ message: expect.any(String), details: expect.any(String) }] },
    },
  })
  await until(isReachable)
})
