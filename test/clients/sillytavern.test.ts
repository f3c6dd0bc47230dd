import { expect, it } from 'vitest'
import {
  bytesOf,
  clientFleet,
  expectAllWorked,
  expectOwn,
  type History,
  type Job,
  jsonOf,
  pause,
  unequalJobs,
  viewQuery,
} from './kit.ts'

const POLL_MS = 20
const fleet = clientFleet({
  models: { checkpoints: ['a.safetensors'] },
  extraClasses: [{ name: 'VAELoader', input: { required: { vae_name: [['v.pt'], {}] } }, output: ['VAE'] }],
})

type ObjectInfo = Record<string, { input: { required: Record<string, [string[]]> } }>

/** Asks for the whole history until the prompt is there, as often as it can. */
async function generate(job: Job): Promise<Buffer> {
  const { prompt_id: id } = await jsonOf<{ prompt_id: string }>(
    await fetch(`${fleet.url}/prompt`, { method: 'POST', body: JSON.stringify({ prompt: job.graph }) }),
  )
  for (;;) {
    const history = await jsonOf<History>(await fetch(`${fleet.url}/history`))
    const item = history[id]
    if (item === undefined) {
      await pause(POLL_MS)
      continue
    }
    expect(item.status.status_str).not.toBe('error')
    const [image] = Object.values(item.outputs).flatMap((output) => output?.images ?? [])
    if (image === undefined) throw new Error('the endpoint did not return any outputs')
    return bytesOf(await fetch(`${fleet.url}/view?${viewQuery(image)}`))
  }
}

it('fills its menus from the fleet', async () => {
  expect((await fetch(`${fleet.url}/system_stats`)).status).toBe(200)
  const info = await jsonOf<ObjectInfo>(await fetch(`${fleet.url}/object_info`))
  expect(info.KSampler?.input.required.sampler_name?.[0].length).toBeGreaterThan(0)
  expect(info.KSampler?.input.required.scheduler?.[0].length).toBeGreaterThan(0)
  expect(info.CheckpointLoaderSimple?.input.required.ckpt_name?.[0]).toEqual(['a.safetensors'])
  expect(info.VAELoader?.input.required.vae_name?.[0]).toEqual(['v.pt'])
})

it('gets its own picture each time by polling the whole history, several at once', async () => {
  const jobs = unequalJobs(6)
  const pictures = await Promise.all(jobs.map(generate))
  for (const [at, job] of jobs.entries()) expectOwn(job, pictures[at] ?? Buffer.alloc(0))
  expectAllWorked(fleet)
})
