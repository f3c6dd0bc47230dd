import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { until } from '../support/app.ts'
import {
  ClientSocket,
  clientFleet,
  expectAllWorked,
  expectOnlyOwn,
  type History,
  type Job,
  jsonOf,
  parse,
  unequalJobs,
  viewAll,
} from './kit.ts'

const fleet = clientFleet()
const json = { 'content-type': 'application/json' }

const post = (path: string, body: object): Promise<Response> =>
  fetch(`${fleet.url}${path}`, { method: 'POST', headers: json, body: JSON.stringify(body) })

async function openSocket(): Promise<{ id: string; socket: ClientSocket }> {
  const id = randomUUID()
  const socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${id}`)
  socket.send({ type: 'feature_flags', data: { supports_preview_metadata: true } })
  return { id, socket }
}

async function submit(clientId: string, job: Job): Promise<string> {
  const answer = await jsonOf<{ prompt_id: string; error?: unknown }>(
    await post('/prompt', { prompt: job.graph, client_id: clientId }),
  )
  expect(answer).not.toHaveProperty('error')
  return answer.prompt_id
}

/** Ignores everything before `execution_start` of its own; what does not begin as ComfyUI's text is taken for binary. */
async function untilDone(socket: ClientSocket, promptId: string): Promise<string[]> {
  const heard: string[] = []
  for (let isMine = false; ; ) {
    const frame = await socket.next()
    if (typeof frame !== 'string') {
      expect([1, 3, 4]).toContain(frame.readUInt32BE(0))
      continue
    }
    expect(frame.startsWith('{"type":')).toBe(true)
    const { type, data } = parse(frame)
    if (type === 'execution_start') isMine = data.prompt_id === promptId
    if (!isMine) continue
    heard.push(type)
    if (type === 'executing' && data.node === null) return heard
  }
}

it('reads the nodes and features of the fleet', async () => {
  expect(Object.keys(await jsonOf<object>(await fetch(`${fleet.url}/object_info`)))).toContain('KSampler')
  expect(await jsonOf(await fetch(`${fleet.url}/features`))).toMatchObject({ supports_preview_metadata: true })
})

it('runs job after job on each of three sockets that it keeps, and deletes each from history', async () => {
  await Promise.all(
    [0, 1, 2].map(async () => {
      const { id, socket } = await openSocket()
      for (const job of unequalJobs(3)) {
        const promptId = await submit(id, job)
        await untilDone(socket, promptId)
        const entry = (await jsonOf<History>(await fetch(`${fleet.url}/history/${promptId}`)))[promptId]
        expectOnlyOwn(job, await viewAll(fleet.url, entry?.outputs ?? {}))
        expect((await post('/history', { delete: [promptId] })).status).toBe(200)
        expect(await jsonOf<History>(await fetch(`${fleet.url}/history/${promptId}`))).toEqual({})
      }
      await socket.close()
    }),
  )
  expectAllWorked(fleet)
})

it('cancels one of two running jobs; the other ends as its own', async () => {
  const [first, second] = [await openSocket(), await openSocket()]
  const [long, short] = unequalJobs(2)
  if (!long || !short) throw new Error('no jobs')
  long.graph['3'] = { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds: 30 } }
  short.graph['3'] = { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds: 0.4 } }
  const cancelled = await submit(first.id, long)
  const kept = await submit(second.id, short)
  const heard = untilDone(first.socket, cancelled)
  await until(async () =>
    (await (await fetch(`${fleet.url}/queue`)).text()).split('queue_pending')[0]?.includes(cancelled),
  )
  expect((await post('/queue', { delete: [cancelled] })).status).toBe(200)
  expect((await post('/interrupt', { prompt_id: cancelled })).status).toBe(200)
  expect(await heard).toContain('execution_interrupted')
  await untilDone(second.socket, kept)
  const entry = (await jsonOf<History>(await fetch(`${fleet.url}/history/${kept}`)))[kept]
  expectOnlyOwn(short, await viewAll(fleet.url, entry?.outputs ?? {}))
  await Promise.all([first.socket.close(), second.socket.close()])
})
