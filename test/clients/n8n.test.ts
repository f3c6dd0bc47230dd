import { expect, it } from 'vitest'
import {
  clientFleet,
  expectAllWorked,
  expectOnlyOwn,
  fromUpload,
  type History,
  type Job,
  jsonOf,
  pause,
  unequalJobs,
  uploadFor,
  viewAll,
} from './kit.ts'

const POLL_MS = 20
const fleet = clientFleet()
/** On every call but /view. */
const headers = { authorization: 'Bearer secret', 'content-type': 'application/json' }

async function execute(job: Job): Promise<Buffer[]> {
  expect((await fetch(`${fleet.url}/system_stats`, { headers })).status).toBe(200)
  const { prompt_id: id } = await jsonOf<{ prompt_id: string }>(
    await fetch(`${fleet.url}/prompt`, { method: 'POST', headers, body: JSON.stringify({ prompt: job.graph }) }),
  )
  for (;;) {
    const entry = (await jsonOf<History>(await fetch(`${fleet.url}/history/${id}`, { headers })))[id]
    if (entry?.status.status_str === 'error') throw new Error('the workflow failed')
    if (entry?.status.completed) return viewAll(fleet.url, entry.outputs)
    await pause(POLL_MS)
  }
}

it('gets its own pictures without a client id and without a socket, six executions at once', async () => {
  await Promise.all(unequalJobs(6).map(async (job) => expectOnlyOwn(job, await execute(job))))
  expectAllWorked(fleet)
})

it('changes the picture of each of six executions', async () => {
  const executions = unequalJobs(6).map(async (job, at) => {
    const { name } = await uploadFor(job, `${fleet.url}/upload/image`, {
      filename: `n8n_${at}.png`,
      fields: { overwrite: 'true' },
      headers: { authorization: headers.authorization },
    })
    expectOnlyOwn(job, await execute(fromUpload(job, name)))
  })
  await Promise.all(executions)
})
