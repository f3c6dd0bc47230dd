import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import {
  ClientSocket,
  clientFleet,
  expectAllWorked,
  expectOnlyOwn,
  type History,
  inTime,
  type Job,
  jsonOf,
  parse,
  unequalJobs,
  viewAll,
} from './kit.ts'

const fleet = clientFleet()

/** Listens only after it has read the answer, so it misses whatever comes before that. */
async function getImages(clientId: string, socket: ClientSocket, job: Job): Promise<Buffer[]> {
  const answer = await jsonOf<{ prompt_id: string }>(
    await fetch(`${fleet.url}/prompt`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ prompt: job.graph, client_id: clientId }),
    }),
  )
  expect(answer).not.toHaveProperty('error')
  const { prompt_id: id } = answer
  const done = new Promise<Entry>((resolve, reject) => {
    const off = socket.on((frame) => {
      if (typeof frame !== 'string') return
      const { type, data } = parse(frame)
      if (type !== 'executing' || data.node || data.prompt_id !== id) return
      off()
      fetch(`${fleet.url}/history/${id}`)
        .then((response) => jsonOf<History>(response))
        .then((history) => {
          const entry = history[id]
          if (entry === undefined) reject(new Error('its outputs are not in history'))
          else resolve(entry)
        }, reject)
    })
  })
  return viewAll(fleet.url, (await inTime(`the end of ${id}`, done)).outputs)
}
type Entry = History[string]

it('gets its own pictures, three jobs of one client at once and three clients at once', async () => {
  const clients = Array.from({ length: 3 }, async () => {
    const clientId = randomUUID()
    const socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${clientId}`)
    await Promise.all(unequalJobs(3).map(async (job) => expectOnlyOwn(job, await getImages(clientId, socket, job))))
    await socket.close()
  })
  await Promise.all(clients)
  expectAllWorked(fleet)
})

it('hears the end of a job that fails', async () => {
  const socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=fails`)
  const [job] = unequalJobs(1)
  if (!job) throw new Error('no job')
  // Two sizes that cannot be mixed: found when it runs.
  job.graph['4'] = { class_type: 'StubMask', inputs: { value: 0.5, width: 4, height: 4, batch_size: 1 } }
  job.graph['5'] = { class_type: 'TestLazyMixImages', inputs: { image1: ['1', 0], image2: ['3', 0], mask: ['4', 0] } }
  job.graph['2'] = { class_type: 'SaveImage', inputs: { images: ['5', 0], filename_prefix: 'x' } }
  expect(await getImages('fails', socket, job)).toEqual([])
  await socket.close()
})
