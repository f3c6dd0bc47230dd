import { afterEach, describe, expect, it } from 'vitest'
import { until } from '../support/app.ts'
import {
  bytesOf,
  ClientSocket,
  clientFleet,
  expectAllWorked,
  expectOwn,
  type ImageName,
  type Job,
  jsonOf,
  type Message,
  parse,
  unequalJobs,
  viewQuery,
} from './kit.ts'

const fleet = clientFleet()
const headers = { 'comfy-user': '' }
const json = { ...headers, 'content-type': 'application/json' }

interface Listed {
  id: string
  status: string
  create_time: number
  outputs_count?: number
  preview_output?: ImageName & { nodeId: string; mediaType: string }
}
interface JobList {
  jobs: Listed[]
  pagination: { offset: number; limit: number | null; total: number; has_more: boolean }
}
interface Detail extends Listed {
  outputs: Record<string, { images?: ImageName[] }>
  execution_status: { status_str: string }
  workflow: { prompt: object; extra_data: object }
}

const get = (path: string): Promise<Response> => fetch(`${fleet.url}${path}`, { headers })
const listJobs = async (statuses: string): Promise<JobList> =>
  jsonOf(await get(`/api/jobs?status=${statuses}&limit=200&offset=0`))
const listActive = (): Promise<JobList> => listJobs('in_progress,pending')
const listEnded = (): Promise<JobList> => listJobs('completed,failed,cancelled')

/** A tab of the editor. */
class Tab {
  sid = ''
  socket: ClientSocket | undefined
  /** What it was told since it connected last, but for `status`. */
  heard: Message[] = []
  readonly #reactions: Promise<unknown>[] = []

  /** The first time without an id; its own is what the first message says. Flags are its first frame. */
  async connect(): Promise<void> {
    const query = this.sid === '' ? '' : `?clientId=${this.sid}`
    const known = this.sid
    this.sid = ''
    this.heard = []
    const listener = (frame: string | Buffer): void => {
      if (typeof frame !== 'string') return
      const message = parse(frame)
      if (message.type !== 'status') {
        this.heard.push(message)
      } else if (typeof message.data.sid === 'string') {
        this.sid = message.data.sid
      } else {
        // Every change makes it read its lists again.
        this.#reactions.push(Promise.all([listActive(), listEnded()]))
      }
    }
    const origin = { origin: fleet.url }
    this.socket = await ClientSocket.open(`ws://${fleet.host}/ws${query}`, { headers: origin, listener })
    this.socket.send({ type: 'feature_flags', data: { supports_preview_metadata: true } })
    await until(() => this.sid)
    if (known !== '') expect(this.sid).toBe(known)
    await this.until((told) => told.some(({ type }) => type === 'feature_flags'))
  }

  async queue(job: Job): Promise<string> {
    const body = {
      client_id: this.sid,
      prompt: job.graph,
      extra_data: { extra_pnginfo: { workflow: { id: 'a workflow', nodes: [] } } },
    }
    const answer = await fetch(`${fleet.url}/api/prompt`, { method: 'POST', headers: json, body: JSON.stringify(body) })
    const { prompt_id, node_errors } = await jsonOf<{ prompt_id: string; node_errors: object }>(answer)
    expect(node_errors).toEqual({})
    return prompt_id
  }

  until(isReached: (heard: readonly Message[]) => boolean): Promise<unknown> {
    return until(() => isReached(this.heard), { what: `more than ${JSON.stringify(this.heard.slice(-20))}` })
  }

  isEnd =
    (promptId: string) =>
    ({ type, data }: Message): boolean =>
      type === 'executing' && data.node === null && data.prompt_id === promptId

  untilEnd(promptId: string): Promise<unknown> {
    return this.until((heard) => heard.some(this.isEnd(promptId)))
  }

  /** Its lists were answered whenever it asked. */
  async close(): Promise<void> {
    await Promise.all(this.#reactions)
    await this.socket?.close()
  }
}

const tabs: Tab[] = []
afterEach(async () => {
  await Promise.all(tabs.splice(0).map((tab) => tab.close()))
})
async function openTab(): Promise<Tab> {
  const tab = new Tab()
  tabs.push(tab)
  await tab.connect()
  return tab
}

async function detailOf(promptId: string): Promise<Detail> {
  return jsonOf(await get(`/api/jobs/${promptId}`))
}

async function expectOwnInGallery(promptId: string, job: Job): Promise<void> {
  const detail = await detailOf(promptId)
  expect(detail).toMatchObject({
    id: promptId,
    status: 'completed',
    outputs_count: 1,
    execution_status: { status_str: 'success' },
    workflow: { prompt: job.graph },
  })
  const images = Object.values(detail.outputs).flatMap((output) => output.images ?? [])
  expect(images).toHaveLength(1)
  for (const image of [...images, ...(detail.preview_output ? [detail.preview_output] : [])]) {
    expectOwn(job, await bytesOf(await get(`/api/view?${viewQuery(image)}`)))
  }
}

/** Holds a worker until it is stopped. */
function endless(): Job {
  const [job] = unequalJobs(1)
  if (!job) throw new Error('no job')
  job.graph['3'] = { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds: 30 } }
  return job
}

const untilRunning = (promptId: string): Promise<unknown> =>
  until(async () => (await listJobs('in_progress')).jobs.some(({ id }) => id === promptId))

describe("ComfyUI's front end", () => {
  it('starts: all that it asks for on its way is answered', async () => {
    const paths = [
      '/api/users',
      '/api/settings',
      '/api/system_stats',
      '/api/object_info',
      '/api/extensions',
      '/api/embeddings',
      '/api/features',
      '/api/queue',
      '/api/history?max_items=64',
      '/api/userdata?dir=workflows&recurse=true&split=false&full_info=true',
      '/internal/logs',
      '/internal/logs/raw',
      '/internal/folder_paths',
    ]
    for (const path of paths) {
      const answer = await get(path)
      const isFolderless = path.startsWith('/api/userdata') && answer.status === 404
      expect([path, isFolderless ? 200 : answer.status]).toEqual([path, 200])
      if (!isFolderless) JSON.parse(await answer.text())
    }
    const tab = await openTab()
    expect(tab.sid).toMatch(/^[0-9a-f]{32}$/)
    const answer = await fetch(`${fleet.url}/internal/logs/subscribe`, {
      method: 'PATCH',
      headers: json,
      body: JSON.stringify({ clientId: tab.sid, enabled: true }),
    })
    expect([answer.status, await answer.text()]).toEqual([200, ''])
  })

  it('shows two tabs the ends and pictures of their own jobs only, one job after the other', async () => {
    const pair = await Promise.all([openTab(), openTab()])
    expect(pair[0].sid).not.toBe(pair[1].sid)
    await Promise.all(
      pair.map(async (tab) => {
        const jobs = unequalJobs(5)
        const ids = await Promise.all(jobs.map((job) => tab.queue(job)))
        await Promise.all(ids.map((id) => tab.untilEnd(id)))
        const said = tab.heard.filter(({ data }) => data.prompt_id !== undefined)
        expect(new Set(said.map(({ data }) => data.prompt_id))).toEqual(new Set(ids))
        const runs = said.filter(({ data }, at) => data.prompt_id !== said[at - 1]?.data.prompt_id)
        expect(runs).toHaveLength(ids.length)
        for (const [at, job] of jobs.entries()) await expectOwnInGallery(ids[at] ?? '', job)
      }),
    )
    expectAllWorked(fleet)
    const { jobs, pagination } = await listEnded()
    expect(pagination).toMatchObject({ offset: 0, limit: 200, total: jobs.length, has_more: false })
    expect(jobs.map(({ create_time }) => create_time)).toEqual(
      jobs.map(({ create_time }) => create_time).toSorted((a, b) => b - a),
    )
  })

  it('is told the rest of a run after its socket broke in the middle', async () => {
    const tab = await openTab()
    const jobs = unequalJobs(4)
    const ids = await Promise.all(jobs.map((job) => tab.queue(job)))
    await tab.until((heard) => heard.some(({ type, data }) => type === 'executing' && data.node === '3'))
    const before = tab.heard
    tab.socket?.terminate()
    await tab.connect()
    const ended = (id: string) => [...before, ...tab.heard].some(tab.isEnd(id))
    await until(() => ids.every(ended))
    expect(ids.filter((id) => tab.heard.some(tab.isEnd(id))).length).toBeGreaterThan(0)
    for (const [at, job] of jobs.entries()) await expectOwnInGallery(ids[at] ?? '', job)
  })

  it('interrupts what runs with an empty body that calls itself JSON', async () => {
    const tab = await openTab()
    const id = await tab.queue(endless())
    await untilRunning(id)
    const answer = await fetch(`${fleet.url}/api/interrupt`, { method: 'POST', headers: json })
    expect([answer.status, await answer.text()]).toEqual([200, ''])
    await tab.untilEnd(id)
    expect(tab.heard.map(({ type }) => type)).toContain('execution_interrupted')
    expect((await detailOf(id)).status).toBe('cancelled')
  })

  it('cancels a running and a waiting job by id, alone and in a batch', async () => {
    const tab = await openTab()
    const running = [await tab.queue(endless()), await tab.queue(endless()), await tab.queue(endless())]
    for (const id of running) await untilRunning(id)
    const waiting = []
    for (let n = 0; n < 6; n++) waiting.push(await tab.queue(endless()))
    const active = await listActive()
    expect(active.jobs.map(({ id }) => id).toSorted()).toEqual([...running, ...waiting].toSorted())
    const [first = '', ...others] = waiting
    const cancel = async (path: string, body?: object): Promise<unknown> =>
      jsonOf(
        await fetch(`${fleet.url}/api/jobs${path}`, {
          method: 'POST',
          headers: json,
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        }),
      )
    expect(await cancel(`/${first}/cancel`)).toEqual({ cancelled: true })
    expect(await cancel(`/${first}/cancel`)).toEqual({ cancelled: false })
    const deleted = await fetch(`${fleet.url}/api/queue`, {
      method: 'POST',
      headers: json,
      body: JSON.stringify({ delete: others.slice(0, 2) }),
    })
    expect(deleted.status).toBe(200)
    expect(await cancel('/cancel', { job_ids: [...others.slice(2), ...running] })).toEqual({ cancelled: true })
    await Promise.all(running.map((id) => tab.untilEnd(id)))
    await until(async () => (await listActive()).pagination.total === 0)
  })
})
