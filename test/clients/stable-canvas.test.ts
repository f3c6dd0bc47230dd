import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import {
  ClientSocket,
  clientFleet,
  type Entry,
  expectAllWorked,
  expectOnlyOwn,
  type ImageName,
  inTime,
  type Job,
  type Message,
  parse,
  pause,
  unequalJobs,
  viewAll,
} from './kit.ts'

const POLL_MS = 20
const fleet = clientFleet()

/** Its client id goes into the query of every call; an error that is not JSON becomes a SyntaxError. */
async function call<T>(id: string, path: string, init: RequestInit = {}): Promise<T> {
  const separator = path.includes('?') ? '&' : '?'
  const response = await fetch(`${fleet.url}${path}${separator}clientId=${id}`, init)
  const body = JSON.parse(await response.text()) as T
  if (!response.ok) throw new Error(`status ${response.status}`, { cause: body })
  return body
}

const submit = async (id: string, prompt: object): Promise<string> =>
  (
    await call<{ prompt_id: string }>(id, '/prompt', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ client_id: id, prompt }),
    })
  ).prompt_id

class Client {
  id = ''
  #messages = new Set<(message: Message) => void>()
  #socket: ClientSocket | undefined

  async connect(): Promise<void> {
    this.id = randomUUID()
    const listener = (frame: string | Buffer): void => {
      if (typeof frame !== 'string') {
        expect([1, 3, 4]).toContain(frame.readUInt32BE(0))
        return
      }
      const message = parse(frame)
      // Whatever id it is given becomes its own.
      if (typeof message.data.sid === 'string') this.id = message.data.sid
      for (const each of [...this.#messages]) each(message)
    }
    this.#socket = await ClientSocket.open(`ws://${fleet.host}/ws?clientId=${this.id}`, { listener })
  }

  /** Ends with the first `executed` of its id; an error of any job that it hears of is its own. */
  async enqueue(job: Job): Promise<ImageName[]> {
    const promptId = await submit(this.id, job.graph)
    let off: (() => boolean) | undefined
    const done = new Promise<ImageName[]>((resolve, reject) => {
      const listener = ({ type, data }: Message) => {
        if (type === 'executed' && data.prompt_id === promptId) {
          resolve((data.output as { images: ImageName[] }).images)
        }
        if (type === 'execution_error') reject(new Error('execution_error'))
      }
      this.#messages.add(listener)
      off = () => this.#messages.delete(listener)
    })
    try {
      return await inTime(`the end of ${promptId}`, done)
    } finally {
      off?.()
    }
  }

  close(): Promise<void> | undefined {
    return this.#socket?.close()
  }
}

type Queue = Record<'queue_running' | 'queue_pending', [number, string][]>

async function enqueuePolling(id: string, job: Job): Promise<Entry> {
  const promptId = await submit(id, job.graph)
  for (;;) {
    const { queue_running, queue_pending } = await call<Queue>(id, '/queue')
    if (![...queue_running, ...queue_pending].some(([, listed]) => listed === promptId)) break
    await pause(POLL_MS)
  }
  const history = await call<Record<string, Entry>>(id, '/history?max_items=200')
  const entry = Object.values(history).find(({ prompt }) => prompt[1] === promptId)
  if (!entry) throw new Error('not found in history')
  return entry
}

it('ends each enqueued job with its own pictures, three at once on each of three clients', async () => {
  const clients = Array.from({ length: 3 }, async () => {
    const client = new Client()
    await client.connect()
    await Promise.all(
      unequalJobs(3).map(async (job) =>
        expectOnlyOwn(job, await viewAll(fleet.url, { '2': { images: await client.enqueue(job) } })),
      ),
    )
    await client.close()
  })
  await Promise.all(clients)
  expectAllWorked(fleet)
})

it('ends a job that is cached, since its output node is told again', async () => {
  const client = new Client()
  await client.connect()
  const [job] = unequalJobs(1)
  if (!job) throw new Error('no job')
  for (let n = 0; n < 5; n++) {
    expectOnlyOwn(job, await viewAll(fleet.url, { '2': { images: await client.enqueue(job) } }))
  }
  await client.close()
})

it('never misses a polled job between queue and history', async () => {
  const polled = unequalJobs(12).map(async (job) => {
    const entry = await enqueuePolling(randomUUID(), job)
    expectOnlyOwn(job, await viewAll(fleet.url, entry.outputs))
  })
  await Promise.all(polled)
})

it('reads every refusal as JSON', async () => {
  await expect(submit('c', { '1': { class_type: 'Nope', inputs: {} } })).rejects.toMatchObject({
    message: 'status 400',
    cause: { error: { type: expect.any(String) } },
  })
  await expect(submit('c', {})).rejects.toMatchObject({ message: 'status 400' })
})
