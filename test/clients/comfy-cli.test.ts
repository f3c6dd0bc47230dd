import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import {
  ClientSocket,
  clientFleet,
  expectAllWorked,
  expectOnlyOwn,
  type ImageName,
  type Job,
  jsonOf,
  parse,
  pause,
  unequalJobs,
  viewAll,
} from './kit.ts'

const MESSAGE_TIMEOUT_MS = 5_000
const POLL_MS = 20
const PARTNER_KEY = 'comfyui-0123456789abcdef'
const fleet = clientFleet()

const submit = async (clientId: string, job: Job): Promise<string> =>
  (
    await jsonOf<{ prompt_id: string }>(
      await fetch(`${fleet.url}/prompt`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: JSON.stringify({
          prompt: job.graph,
          client_id: clientId,
          extra_data: { api_key_comfy_org: PARTNER_KEY },
        }),
      }),
    )
  ).prompt_id

/** Collects what its output nodes tell; every message must come within the timeout. */
async function run(job: Job): Promise<Buffer[]> {
  await jsonOf(await fetch(`${fleet.url}/object_info`))
  const clientId = randomUUID()
  const socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${clientId}`)
  const id = await submit(clientId, job)
  const images: ImageName[] = []
  for (let isDone = false; !isDone; ) {
    const frame = await socket.next(MESSAGE_TIMEOUT_MS)
    if (typeof frame !== 'string') continue
    const { type, data } = parse(frame)
    if (data.prompt_id !== id) continue
    if (type === 'executed') images.push(...((data.output as { images?: ImageName[] }).images ?? []))
    if (type === 'execution_error') throw new Error(String(data.exception_message))
    isDone = type === 'executing' && data.node === null
  }
  await socket.close()
  return viewAll(fleet.url, { '2': { images } })
}

/** What is left behind when the terminal goes: it only asks. */
async function watch(id: string): Promise<void> {
  for (;;) {
    const history = await (await fetch(`${fleet.url}/history/${id}`)).text()
    const queue = await (await fetch(`${fleet.url}/queue`)).text()
    expect(history + queue).not.toContain(PARTNER_KEY)
    if (history.includes('"completed": true')) return
    // Between the two answers it may have ended, but it is never in neither.
    if (!queue.includes(id)) expect(await (await fetch(`${fleet.url}/history/${id}`)).text()).toContain(id)
    await pause(POLL_MS)
  }
}

it('collects its own pictures from the messages, six terminals at once', async () => {
  await Promise.all(unequalJobs(6).map(async (job) => expectOnlyOwn(job, await run(job))))
  expectAllWorked(fleet)
})

it('is watched to its end by polling, and its partner key is shown nowhere', async () => {
  await Promise.all(unequalJobs(4).map(async (job) => watch(await submit(randomUUID(), job))))
})

it('reads the refusal of each node', async () => {
  const graph = { '2': { class_type: 'SaveImage', inputs: { filename_prefix: 'x' } } }
  const answer = await fetch(`${fleet.url}/prompt`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: JSON.stringify({ prompt: graph, client_id: 'c' }),
  })
  expect([answer.status, await answer.json()]).toMatchObject([
    400,
    { error: { message: expect.any(String) }, node_errors: { '2': { class_type: 'SaveImage', errors: [{}] } } },
  ])
})
