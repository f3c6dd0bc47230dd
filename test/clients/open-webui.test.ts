import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import {
  ClientSocket,
  clientFleet,
  expectAllWorked,
  expectOnlyOwn,
  fromUpload,
  type History,
  type Job,
  jsonOf,
  unequalJobs,
  untilExecutingNull,
  uploadFor,
  viewAll,
} from './kit.ts'

const fleet = clientFleet()
/** Sent with every call, also when no key was set. */
const headers = { authorization: 'Bearer ' }

/** A socket for each picture; the client id is the user's. History is read once, and the prompt must be there. */
async function generate(clientId: string, job: Job): Promise<Buffer[]> {
  const socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${clientId}`, { headers })
  const { prompt_id: id } = await jsonOf<{ prompt_id: string }>(
    await fetch(`${fleet.url}/prompt`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: job.graph, client_id: clientId }),
    }),
  )
  await untilExecutingNull(socket, id)
  const entry = (await jsonOf<History>(await fetch(`${fleet.url}/history/${id}`, { headers })))[id]
  if (entry === undefined) throw new Error(`KeyError: ${id}`)
  const pictures = await viewAll(fleet.url, entry.outputs, { headers })
  await socket.close()
  return pictures
}

it('shows each of four users their own pictures, two each', async () => {
  const users = Array.from({ length: 4 }, () => ({ id: randomUUID(), jobs: unequalJobs(3).slice(0, 2) }))
  await Promise.all(
    users.map(async ({ id, jobs }) => {
      for (const job of jobs) expectOnlyOwn(job, await generate(id, job))
    }),
  )
  expectAllWorked(fleet)
})

it('is told of a workflow that cannot run', async () => {
  const answer = await fetch(`${fleet.url}/prompt`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: { '1': { class_type: 'Nope', inputs: {} } }, client_id: 'u' }),
  })
  expect([answer.status, await answer.json()]).toMatchObject([400, { error: { message: expect.any(String) } }])
})

it('edits the picture that each of six users uploaded, all under one name', async () => {
  const users = unequalJobs(6).map(async (job) => {
    const upload = { filename: 'image.png', fields: { type: 'input' }, headers }
    const { name } = await uploadFor(job, `${fleet.url}/api/upload/image`, upload)
    expectOnlyOwn(job, await generate(randomUUID(), fromUpload(job, name)))
  })
  await Promise.all(users)
})
