import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { until } from '../support/app.ts'
import {
  ClientSocket,
  clientFleet,
  expectAllWorked,
  expectOnlyOwn,
  type Job,
  jsonOf,
  overSocket,
  parse,
  unequalJobs,
} from './kit.ts'

const fleet = clientFleet()
const json = { 'content-type': 'application/json' }
const PREVIEW_BYTES = 8

const post = (path: string, body: object): Promise<Response> =>
  fetch(`${fleet.url}${path}`, { method: 'POST', headers: json, body: JSON.stringify(body) })

interface SystemStats {
  devices: { name: string; type: string; vram_total: number }[]
}

/** Looks at the server before it uses it: a socket is opened for a try and closed. */
async function connect(): Promise<{ id: string; socket: ClientSocket }> {
  const { devices } = await jsonOf<SystemStats>(await fetch(`${fleet.url}/system_stats`))
  expect(devices[0]).toMatchObject({ name: expect.any(String), type: 'cuda', vram_total: expect.any(Number) })
  const id = randomUUID()
  await (await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${id}`)).close()
  expect(await jsonOf<object>(await fetch(`${fleet.url}/object_info`))).toHaveProperty('KSampler')
  return { id, socket: await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${id}`) }
}

/** Sends its jobs one behind the other without waiting for their ends, each under an id of its own. */
async function enqueue(clientId: string, jobs: readonly Job[]): Promise<Map<string, Job>> {
  const sent = new Map<string, Job>()
  for (const job of jobs) {
    const promptId = randomUUID()
    const body = { prompt: job.graph, client_id: clientId, prompt_id: promptId, front: false }
    const answer = await jsonOf<{ prompt_id: string }>(await post('/prompt', body))
    if (answer.prompt_id !== promptId) throw new Error('Prompt ID mismatch')
    sent.set(promptId, job)
  }
  return sent
}

interface End {
  promptId: string
  pictures: Buffer[]
  isInterrupted: boolean
}

/** `execution_start` makes a job the active one, and pictures that come then are its; `executing` null ends it. */
async function nextEnd(socket: ClientSocket, jobs: ReadonlyMap<string, Job>): Promise<End> {
  let active: End | undefined
  for (;;) {
    const frame = await socket.next()
    if (typeof frame !== 'string') {
      expect([frame.readUInt32BE(0), frame.readUInt32BE(4)]).toEqual([1, 2])
      if (!active) throw new Error('a picture came while no job was active')
      active.pictures.push(frame.subarray(PREVIEW_BYTES))
      continue
    }
    const { type, data } = parse(frame)
    const promptId = String(data.prompt_id)
    if (type === 'execution_start') {
      expect(active).toBeUndefined()
      expect(jobs.has(promptId)).toBe(true)
      active = { promptId, pictures: [], isInterrupted: false }
    }
    if (type === 'execution_interrupted' && active) active.isInterrupted = true
    if (type === 'executing' && data.node === null) {
      expect(active?.promptId).toBe(promptId)
      if (active) return active
    }
  }
}

it('gets the pictures of eight jobs through one socket, one job after the other', async () => {
  const { id, socket } = await connect()
  const jobs = await enqueue(id, unequalJobs(8).map(overSocket))
  const ended: string[] = []
  while (ended.length < jobs.size) {
    const { promptId, pictures } = await nextEnd(socket, jobs)
    const job = jobs.get(promptId)
    if (!job) throw new Error(`unknown job ${promptId}`)
    expectOnlyOwn(job, pictures)
    ended.push(promptId)
  }
  expect(ended.toSorted()).toEqual([...jobs.keys()].toSorted())
  expectAllWorked(fleet)
  await socket.close()
})

it('takes a waiting job back, and stops the active one', async () => {
  const { id, socket } = await connect()
  const blockers = unequalJobs(7).map(overSocket)
  for (const { graph } of blockers) graph['3'] = { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds: 0.5 } }
  const jobs = await enqueue(id, blockers)
  const last = [...jobs.keys()].at(-1) ?? ''
  expect((await post('/queue', { delete: [last] })).status).toBe(200)
  jobs.delete(last)
  for (let n = 0; n < 6; n++) {
    const { promptId, pictures } = await nextEnd(socket, jobs)
    const job = jobs.get(promptId)
    if (job) expectOnlyOwn(job, pictures)
  }
  const [long] = unequalJobs(1).map(overSocket)
  if (!long) throw new Error('no job')
  long.graph['3'] = { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds: 30 } }
  const [stopped = ''] = (await enqueue(id, [long])).keys()
  await until(async () =>
    (await (await fetch(`${fleet.url}/queue`)).text()).split('queue_pending')[0]?.includes(stopped),
  )
  expect((await post('/interrupt', {})).status).toBe(200)
  expect(await nextEnd(socket, new Map([[stopped, long]]))).toMatchObject({ promptId: stopped, isInterrupted: true })
  await socket.close()
})
