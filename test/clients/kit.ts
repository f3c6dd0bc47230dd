import { afterAll, beforeAll, expect } from 'vitest'
import { WebSocket } from 'ws'
import { encodePng } from '../../src/demo/png.ts'
import type { SimulatedWorker, SimulatedWorkerOptions } from '../../src/demo/simulated-worker.ts'
import { readPicture } from '../../src/verify/picture.ts'
import { buildTestGateway, type TestGateway } from '../support/app.ts'
import { pictureGraph } from '../support/comfy-client.ts'

/** Three workers of unequal speed and of two releases, as fleets are. */
const UNEQUAL: readonly SimulatedWorkerOptions[] = [
  { pace: { nodeMs: 1 } },
  { pace: { nodeMs: 15 }, version: '2026' },
  { pace: { nodeMs: 60 } },
]
const DEADLINE_MS = 15_000

export interface ClientFleet {
  readonly url: string
  /** `host:port`, as clients of Python are told. */
  readonly host: string
  readonly workers: readonly SimulatedWorker[]
}

/** A gateway in front of three unequal workers for the tests of a file. `options` go to every worker. */
export function clientFleet(
  options: SimulatedWorkerOptions = {},
  more: { env?: Readonly<Record<string, string>> } = {},
): ClientFleet {
  let fleet: TestGateway | undefined
  beforeAll(async () => {
    fleet = await buildTestGateway({ workers: UNEQUAL.map((each) => ({ ...options, ...each })), ...more })
  })
  afterAll(() => fleet?.close())
  const running = (): TestGateway => {
    if (!fleet) throw new Error('the fleet runs during tests only')
    return fleet
  }
  return {
    get url() {
      return running().url
    },
    get host() {
      return new URL(running().url).host
    },
    get workers() {
      return running().workers
    },
  }
}

/** A picture of one colour that nobody else asks for, and how long it takes. */
export interface Job {
  colour: number
  graph: Record<string, { class_type: string; inputs: Record<string, unknown> }>
}

const SECONDS = [0.35, 0.02, 0.2, 0.08, 0.5, 0.01]
let lastColour = 0x100000

/** Jobs of unequal length: the longest are not the last. */
export function unequalJobs(count: number): Job[] {
  return Array.from({ length: count }, (_, at) => {
    lastColour += 0x1357
    const graph = pictureGraph({ colour: lastColour, sleepS: SECONDS[at % SECONDS.length] ?? 0.1 })
    return { colour: lastColour, graph }
  })
}

/** The same with the picture sent through the socket instead of written to disk. */
export function overSocket(job: Job): Job {
  return { ...job, graph: { ...job.graph, '2': { class_type: 'SaveImageWebsocket', inputs: { images: ['3', 0] } } } }
}

export interface UploadedName {
  name: string
  subfolder: string
  type: string
}

/** Uploads the picture that the job is about, and answers the name that it was given. */
export async function uploadFor(
  job: Job,
  to: string,
  {
    filename,
    fields,
    headers = {},
  }: { filename: string; fields: Record<string, string>; headers?: Record<string, string> },
): Promise<UploadedName> {
  const form = new FormData()
  const png = encodePng({ width: 8, height: 8, colour: job.colour })
  form.set('image', new Blob([new Uint8Array(png)], { type: 'image/png' }), filename)
  for (const [name, value] of Object.entries(fields)) form.set(name, value)
  return jsonOf(await fetch(to, { method: 'POST', headers, body: form }))
}

/** The job with an upload as its picture. */
export function fromUpload(job: Job, name: string): Job {
  return { ...job, graph: { ...job.graph, '1': { class_type: 'LoadImage', inputs: { image: name } } } }
}

/** The job's picture, and no other. */
export const expectOwn = (job: Job, bytes: Buffer): void => {
  expect(readPicture(bytes)).toEqual({ width: 8, height: 8, colour: job.colour })
}

/** Every worker had its part: nothing was proved on a fleet of one. */
export function expectAllWorked(fleet: ClientFleet): void {
  expect(fleet.workers.map(({ ledger }) => ledger.runs.length > 0)).toEqual([true, true, true])
}

/** The bytes of a 200; anything else fails. */
export async function bytesOf(response: Response): Promise<Buffer> {
  expect(response.status).toBe(200)
  return Buffer.from(await response.arrayBuffer())
}

/** JSON of a 200, as a client reads it that trusts its server. */
export async function jsonOf<T>(response: Response): Promise<T> {
  const text = await response.text()
  expect([response.status, text]).toEqual([200, expect.any(String)])
  return JSON.parse(text) as T // The test says which answer it expects.
}

export interface ImageName {
  filename: string
  subfolder: string
  type: string
}
export type Outputs = Record<string, { images?: ImageName[] } | null>
export interface Entry {
  prompt: [number, string, object, object, string[]]
  outputs: Outputs
  status: { status_str: string; completed: boolean; messages: [string, Record<string, unknown>][] }
}
export type History = Record<string, Entry>

export const viewQuery = ({ filename, subfolder, type }: ImageName): string =>
  new URLSearchParams({ filename, subfolder, type }).toString()

/** Looks at the pictures of an entry, as most clients do. */
export async function viewAll(url: string, outputs: Outputs, init: RequestInit = {}): Promise<Buffer[]> {
  const images = Object.values(outputs).flatMap((output) => output?.images ?? [])
  return Promise.all(images.map(async (image) => bytesOf(await fetch(`${url}/view?${viewQuery(image)}`, init))))
}

/** One picture, and that of the job. */
export function expectOnlyOwn(job: Job, pictures: readonly Buffer[]): void {
  expect(pictures).toHaveLength(1)
  for (const bytes of pictures) expectOwn(job, bytes)
}

export interface Message {
  type: string
  data: Record<string, unknown>
}

export class SocketEndedError extends Error {}

/** A socket that is read one frame after the other, or listened to. */
export class ClientSocket {
  readonly socket: WebSocket
  readonly #frames: (string | Buffer)[] = []
  readonly #listeners = new Set<(frame: string | Buffer) => void>()
  #wake: () => void = () => {}

  private constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data: Buffer, isBinary) => {
      const frame = isBinary ? data : data.toString('utf8')
      this.#frames.push(frame)
      for (const listener of [...this.#listeners]) listener(frame)
      this.#wake()
    })
    socket.on('close', () => this.#wake())
    socket.on('error', () => {})
  }

  /** A `listener` hears from the first frame on. */
  static async open(
    url: string,
    { headers = {}, listener }: { headers?: Record<string, string>; listener?: (frame: string | Buffer) => void } = {},
  ): Promise<ClientSocket> {
    const client = new ClientSocket(new WebSocket(url, { headers }))
    if (listener) client.on(listener)
    await new Promise<void>((resolve, reject) => client.socket.once('open', resolve).once('error', reject))
    return client
  }

  /** The next frame that was not read yet. Throws SocketEndedError when there is none any more. */
  async next(deadlineMs = DEADLINE_MS): Promise<string | Buffer> {
    const deadline = performance.now() + deadlineMs
    for (;;) {
      const frame = this.#frames.shift()
      if (frame !== undefined) return frame
      if (this.socket.readyState !== WebSocket.OPEN) throw new SocketEndedError('the socket was closed')
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) throw new Error('no message came in time')
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** Hears what comes from now on; what came before is missed, as by an event emitter. */
  on(listener: (frame: string | Buffer) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  send(message: object): void {
    this.socket.send(JSON.stringify(message))
  }

  async close(): Promise<void> {
    if (this.socket.readyState === WebSocket.CLOSED) return
    const closed = new Promise((resolve) => this.socket.once('close', resolve))
    this.socket.close()
    await closed
  }

  terminate(): void {
    this.socket.terminate()
  }
}

export const parse = (frame: string): Message => JSON.parse(frame) as Message

/** Reads on until `executing` without a node says that the prompt has ended. */
export async function untilExecutingNull(socket: ClientSocket, promptId: string): Promise<void> {
  for (;;) {
    const frame = await socket.next()
    if (typeof frame !== 'string') continue
    const { type, data } = parse(frame)
    if (type === 'executing' && data.node === null && data.prompt_id === promptId) return
  }
}

/** Fails when it takes too long: a client that waits for ever is the failure these tests look for. */
export async function inTime<T>(what: string, wait: Promise<T>, deadlineMs = DEADLINE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come in time`)), deadlineMs)
  })
  try {
    return await Promise.race([wait, late])
  } finally {
    clearTimeout(timer)
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
