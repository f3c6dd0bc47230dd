import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import WebSocket from 'ws'
import { SPARE_COLOURS, type Work } from './plan.ts'
import { type Frame, fileName, type HistoryFile, type Post, type SocketRecord, type Submission } from './record.ts'

export interface ChaosClientOptions {
  id: string
  url: string
  work: readonly Work[]
  /** Prompts it has under way at once. */
  lanes: number
  /** A prompt of it has ended. */
  onEnd: () => void
}

/** As the front end of ComfyUI does. */
const RECONNECT_MS = 300
const RETRY_MS = 150
const POST_TIMEOUT_MS = 20_000

/**
 * A client that trusts its socket: it submits, waits for the end of each prompt there, connects anew for ever under the
 * same id, and submits again what was not answered. Keeps a record of all that it saw.
 */
export class ChaosClient {
  readonly submissions: Submission[] = []
  readonly sockets: SocketRecord[] = []
  readonly #options: ChaosClientOptions
  readonly #ended = new Set<string>()
  readonly #waiting = new Map<string, () => void>()
  #socket: WebSocket | undefined
  #reconnect: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: ChaosClientOptions) {
    this.#options = options
  }

  /** Resolves when each of its prompts has ended on a socket; rejects when the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const socket = this.#connect()
    await new Promise<void>((resolve) => socket.once('open', () => resolve()))
    const left = [...this.#options.work]
    const lane = async (): Promise<void> => {
      for (let work = left.shift(); work; work = left.shift()) {
        const submission = await this.#submit(work, signal)
        if (submission.promptId !== undefined) await this.#endOf(submission.promptId)
        this.#options.onEnd()
      }
    }
    const late = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('the end of a prompt was not told in time')), {
        once: true,
      })
    })
    await Promise.race([Promise.all(Array.from({ length: this.#options.lanes }, lane)), late])
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#reconnect)
    this.#socket?.terminate()
  }

  /** Submits until there is an answer that settles it. */
  async #submit(planned: Work, signal: AbortSignal): Promise<Submission> {
    let work = planned
    let id = work.ownId
    let submission = this.#newSubmission(work)
    for (;;) {
      const post: Post = { sentAt: Date.now(), endedAt: Number.POSITIVE_INFINITY, status: undefined }
      submission.posts.push(post)
      const answer = await this.#post(work, id, post, signal)
      if (answer !== undefined) {
        submission.promptId = answer
        return submission
      }
      if (post.status !== undefined && post.status !== 503) return submission
      if (post.status === undefined && id === undefined) {
        // It may have been taken under an id that this client never heard of: another prompt, and this time with an id.
        id = randomUUID()
        work = { ...work, colour: work.colour ^ SPARE_COLOURS }
        submission = this.#newSubmission(work)
      }
      await pause(RETRY_MS, undefined, { signal })
    }
  }

  #newSubmission({ colour, width, height, fails }: Work): Submission {
    const clientId = this.#options.id
    const submission: Submission = { clientId, colour, width, height, fails, promptId: undefined, posts: [] }
    this.submissions.push(submission)
    return submission
  }

  /** The id of a 200; undefined for anything else, which is noted in `post`. */
  async #post(work: Work, id: string | undefined, post: Post, signal: AbortSignal): Promise<string | undefined> {
    try {
      const response = await fetch(`${this.#options.url}/prompt`, {
        method: 'POST',
        body: JSON.stringify({
          client_id: this.#options.id,
          prompt: graphOf(work),
          ...(id === undefined ? {} : { prompt_id: id }),
        }),
        signal: AbortSignal.any([signal, AbortSignal.timeout(POST_TIMEOUT_MS)]),
      })
      const text = await response.text()
      post.status = response.status
      if (response.status === 200) return (JSON.parse(text) as { prompt_id: string }).prompt_id
      post.refusal = text
    } catch (error) {
      if (signal.aborted) throw error
    } finally {
      post.endedAt = Date.now()
    }
    return undefined
  }

  async #endOf(promptId: string): Promise<void> {
    if (this.#ended.has(promptId)) return
    await new Promise<void>((resolve) => this.#waiting.set(promptId, resolve))
  }

  #connect(): WebSocket {
    const { url, id } = this.#options
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?clientId=${encodeURIComponent(id)}`)
    this.#socket = socket
    let record: SocketRecord | undefined
    socket.on('open', () => {
      record = {
        clientId: id,
        isReconnect: this.sockets.length > 0,
        openedAt: Date.now(),
        closedAt: undefined,
        frames: [],
      }
      this.sockets.push(record)
      socket.send(JSON.stringify({ type: 'feature_flags', data: { supports_preview_metadata: true } }))
    })
    socket.on('message', (data, isBinary) => {
      if (isBinary || !record) return
      const frame = readFrame(String(data))
      record.frames.push(frame)
      if (frame.type === 'executing' && frame.node === null) this.#hasEnded(frame.promptId ?? '')
    })
    // `close` follows.
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (this.#isClosed) return
      if (record) record.closedAt = Date.now()
      this.#reconnect = setTimeout(() => this.#connect(), RECONNECT_MS)
    })
    return socket
  }

  #hasEnded(promptId: string): void {
    this.#ended.add(promptId)
    this.#waiting.get(promptId)?.()
    this.#waiting.delete(promptId)
  }
}

/** A picture of one colour that takes its time. All are saved under the same name, as ComfyUI's users do. */
function graphOf({ colour, width, height, sleepMs, fails }: Work): object {
  return {
    '1': { class_type: 'EmptyImage', inputs: { width, height, batch_size: 1, color: colour } },
    '3': { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds: sleepMs / 1_000 } },
    '2': { class_type: 'SaveImage', inputs: { images: ['3', 0], filename_prefix: fails ? 'FAIL' : 'ComfyUI' } },
  }
}

function readFrame(text: string): Frame {
  const { type, data } = JSON.parse(text) as {
    type: string
    data: { prompt_id?: string; node?: string | null; output?: { images?: HistoryFile[] } | null }
  }
  const frame: Frame = { at: Date.now(), type, promptId: data.prompt_id }
  if (data.node !== undefined) frame.node = data.node
  if (type === 'executed') frame.files = data.output?.images?.map(fileName) ?? []
  return frame
}
