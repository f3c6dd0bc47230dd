import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { until } from '../support/app.ts'
import {
  ClientSocket,
  clientFleet,
  type Entry,
  expectAllWorked,
  expectOnlyOwn,
  type History,
  inTime,
  type Job,
  jsonOf,
  parse,
  pause,
  unequalJobs,
  viewAll,
} from './kit.ts'

const POLL_MS = 20
const fleet = clientFleet()
const ENDS = new Set(['execution_success', 'execution_error', 'execution_interrupted'])

/** One socket for all of its prompts; socket and polling at the same time, and history must then say `completed`. */
async function run(clientId: string, socket: ClientSocket, job: Job): Promise<Buffer[]> {
  const heard = new Map<string, string>()
  const off = socket.on((frame) => {
    if (typeof frame !== 'string') return
    const { type, data } = parse(frame)
    if (ENDS.has(type) && typeof data.prompt_id === 'string') heard.set(data.prompt_id, type)
  })
  const { prompt_id: id } = await jsonOf<{ prompt_id: string }>(
    await fetch(`${fleet.url}/prompt`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: job.graph, client_id: clientId }),
    }),
  )
  const ended = (async (): Promise<Entry> => {
    for (;;) {
      const entry = (await jsonOf<History>(await fetch(`${fleet.url}/history/${id}`)))[id]
      if (entry?.status.completed) return entry
      await pause(POLL_MS)
    }
  })()
  const entry = await inTime(`history of ${id}`, ended)
  await until(() => heard.has(id), { what: `the end of ${id}` })
  off()
  expect(heard.get(id)).toBe('execution_success')
  return viewAll(fleet.url, entry.outputs)
}

it('hears and reads the end of each of its prompts, six at once through one socket', async () => {
  const clientId = randomUUID()
  const socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${clientId}`)
  await Promise.all(unequalJobs(6).map(async (job) => expectOnlyOwn(job, await run(clientId, socket, job))))
  expectAllWorked(fleet)
  await socket.close()
})
