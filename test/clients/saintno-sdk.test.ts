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
  type ImageName,
  inTime,
  type Job,
  jsonOf,
  type Message,
  parse,
  unequalJobs,
  viewAll,
} from './kit.ts'

const fleet = clientFleet()
type Queue = Record<'queue_running' | 'queue_pending', [number, string][]>

/** The client of one API: its socket is replaced when it seems dead, its listeners stay. */
class Api {
  readonly id = randomUUID()
  /** Every id that it was told to use. */
  readonly adopted = new Set<unknown>()
  #socket: ClientSocket | undefined
  readonly #listeners = new Set<(message: Message) => void>()

  /** Everything at once, as soon as the server answers; nothing of it may fail. */
  async init(): Promise<void> {
    await until(async () => (await fetch(`${fleet.url}/prompt`)).status === 200)
    const [stats, , node, logs] = await Promise.all([
      fetch(`${fleet.url}/system_stats`),
      fetch(`${fleet.url}/manager/version`),
      fetch(`${fleet.url}/object_info/Primitive%20boolean%20%5BCrystools%5D`),
      fetch(`${fleet.url}/internal/logs/subscribe`, {
        method: 'PATCH',
        body: JSON.stringify({ clientId: this.id, enabled: true }),
      }),
      this.connect(),
    ])
    expect((await jsonOf<{ system: { os: string } }>(stats)).system.os).toEqual(expect.any(String))
    expect(await jsonOf(node)).toEqual({})
    expect(logs.status).toBe(200)
  }

  async connect(): Promise<void> {
    const listener = (frame: string | Buffer): void => {
      // Its binary reader knows frames of type 1.
      if (typeof frame !== 'string') {
        expect(frame.readUInt32BE(0)).toBe(1)
        return
      }
      const message = parse(frame)
      if (message.data.sid !== undefined) this.adopted.add(message.data.sid)
      for (const each of [...this.#listeners]) each(message)
    }
    this.#socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${this.id}`, { listener })
  }

  /** What it does after a while without messages: whatever was said meanwhile is not heard. */
  async reconnect(): Promise<void> {
    this.#socket?.terminate()
    await this.connect()
  }

  on(listener: (message: Message) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async history(promptId: string): Promise<Entry | undefined> {
    return (await jsonOf<History>(await fetch(`${fleet.url}/history/${promptId}`)))[promptId]
  }

  async queue(): Promise<string[]> {
    const { queue_running, queue_pending } = await jsonOf<Queue>(await fetch(`${fleet.url}/queue`))
    return [...queue_running, ...queue_pending].map(([, id]) => id)
  }

  close(): Promise<void> | undefined {
    return this.#socket?.close()
  }
}

/** Resolves with the pictures of the output node that it mapped, or fails for one of the reasons that it knows. */
async function run(api: Api, job: Job): Promise<ImageName[]> {
  const { prompt_id: id } = await jsonOf<{ prompt_id: string }>(
    // Its own JSON header is overwritten by those of the credentials.
    await fetch(`${fleet.url}/prompt`, {
      method: 'POST',
      body: JSON.stringify({ client_id: api.id, prompt: job.graph }),
    }),
  )
  const offs: (() => void)[] = []
  const done = new Promise<ImageName[]>((resolve, reject) => {
    const guard = (work: () => Promise<void>) => void work().catch(reject)
    const end = ({ outputs }: Pick<Entry, 'outputs'>) => resolve(outputs['2']?.images ?? [])
    let isStarted = false
    offs.push(
      api.on(({ type, data }) => {
        const isMine = data.prompt_id === id
        if (type === 'status') guard(lookForIt)
        if (isMine && !isStarted && (type === 'executing' || (type === 'execution_cached' && hasNodes(data)))) {
          isStarted = true
          guard(start)
        }
        if (!isStarted) return
        if (type === 'executed' && isMine && data.node === '2') end({ outputs: { '2': outputOf(data) } })
        if (type === 'execution_error' && isMine) reject(new Error('Execution error'))
        // It checks no id here: with two of its jobs mixed up it takes the other's end for its own.
        if (type === 'execution_success') guard(expectCompleted)
      }),
    )
    async function start(): Promise<void> {
      const entry = await api.history(id)
      if (entry?.status.completed) end(entry)
    }
    async function expectCompleted(): Promise<void> {
      const entry = await api.history(id)
      if (entry?.status.completed) end(entry)
      else reject(new Error('Execution failed'))
    }
    async function lookForIt(): Promise<void> {
      if ((await api.queue()).includes(id)) return
      const entry = await api.history(id)
      if (entry === undefined) reject(new Error('The prompt went missing'))
      else if (entry.status.completed) end(entry)
    }
  })
  try {
    return await inTime(`the end of ${id}`, done)
  } finally {
    for (const off of offs) off()
  }
}

const hasNodes = ({ nodes }: Message['data']): boolean => Array.isArray(nodes) && nodes.length > 0
const outputOf = ({ output }: Message['data']): { images: ImageName[] } => output as { images: ImageName[] }

it('runs three jobs of unequal length at once on each of three clients, none of which fails or goes missing', async () => {
  const clients = Array.from({ length: 3 }, async () => {
    const api = new Api()
    await api.init()
    await Promise.all(
      unequalJobs(3).map(async (job) =>
        expectOnlyOwn(job, await viewAll(fleet.url, { '2': { images: await run(api, job) } })),
      ),
    )
    expect(api.adopted).toEqual(new Set([api.id]))
    await api.close()
  })
  await Promise.all(clients)
  expectAllWorked(fleet)
})

it('gets its pictures although it takes its socket for dead again and again', async () => {
  const api = new Api()
  await api.init()
  let isDone = false
  const jobs = Promise.all(
    unequalJobs(5).map(async (job) =>
      expectOnlyOwn(job, await viewAll(fleet.url, { '2': { images: await run(api, job) } })),
    ),
  ).finally(() => {
    isDone = true
  })
  const started = () => fleet.workers.reduce((sum, { ledger }) => sum + ledger.runs.length, 0)
  for (let seen = started(); !isDone; seen = started()) {
    await until(() => isDone || started() > seen)
    await api.reconnect()
  }
  await jobs
  await api.close()
})
