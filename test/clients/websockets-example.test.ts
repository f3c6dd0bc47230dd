import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import {
  ClientSocket,
  clientFleet,
  expectAllWorked,
  expectOnlyOwn,
  type History,
  type Job,
  jsonOf,
  overSocket,
  parse,
  unequalJobs,
  untilExecutingNull,
  viewAll,
} from './kit.ts'

const fleet = clientFleet()

/** `urllib` gives every body the type of a form. */
const queuePrompt = async (clientId: string, promptId: string, job: Job): Promise<void> => {
  const answer = await jsonOf<{ prompt_id: string }>(
    await fetch(`${fleet.url}/prompt`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: JSON.stringify({ prompt: job.graph, client_id: clientId, prompt_id: promptId }),
    }),
  )
  expect(answer.prompt_id).toBe(promptId)
}

it('gives every script its own picture by the id that it chose', async () => {
  const scripts = unequalJobs(6).map(async (job) => {
    const [clientId, promptId] = [randomUUID(), randomUUID()]
    const socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${clientId}`)
    await queuePrompt(clientId, promptId, job)
    await untilExecutingNull(socket, promptId)
    const entry = (await jsonOf<History>(await fetch(`${fleet.url}/history/${promptId}`)))[promptId]
    if (entry === undefined) throw new Error(`KeyError: ${promptId}`)
    expect(entry.prompt[1]).toBe(promptId)
    expectOnlyOwn(job, await viewAll(fleet.url, entry.outputs))
    await socket.close()
  })
  await Promise.all(scripts)
  expectAllWorked(fleet)
})

it('gives the variant without files its pictures through the socket, while its node runs', async () => {
  const scripts = unequalJobs(6).map(async (job) => {
    const [clientId, promptId] = [randomUUID(), randomUUID()]
    const socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${clientId}`)
    await queuePrompt(clientId, promptId, overSocket(job))
    const pictures: Buffer[] = []
    for (let node: unknown = ''; node !== null; ) {
      const frame = await socket.next()
      if (typeof frame === 'string') {
        const { type, data } = parse(frame)
        if (type === 'executing' && data.prompt_id === promptId) node = data.node
      } else if (node === '2') {
        pictures.push(frame.subarray(8))
      }
    }
    expectOnlyOwn(job, pictures)
    await socket.close()
  })
  await Promise.all(scripts)
})
