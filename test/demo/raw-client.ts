import { once } from 'node:events'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { WebSocket } from 'ws'

export interface RawAnswer {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
  text: string
}

export interface RawRequest {
  method?: string
  path: string
  headers?: Record<string, string>
  body?: string | Buffer
  signal?: AbortSignal
}

/** Sends exactly this, on a connection of its own. Rejects when the connection breaks before the answer is whole. */
export function send(
  url: string,
  { method = 'GET', path, headers = {}, body, signal }: RawRequest,
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const request = httpRequest({ hostname, port, method, path, headers, agent: false, ...(signal ? { signal } : {}) })
    request.on('error', reject)
    request.on('response', (response) => {
      const chunks: Buffer[] = []
      response.on('error', reject)
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => {
        const bytes = Buffer.concat(chunks)
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: bytes,
          text: bytes.toString('utf8'),
        })
      })
    })
    request.end(body)
  })
}

export const post = (url: string, path: string, body: unknown): Promise<RawAnswer> =>
  send(url, { method: 'POST', path, body: typeof body === 'string' ? body : JSON.stringify(body) })

/** Checks a condition again and again until it holds; throws after `timeoutMs`. */
export async function until(condition: () => boolean, what = 'condition', timeoutMs = 5_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs} ms in vain for: ${what}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

export interface SeenMessage {
  type: string
  data: Record<string, unknown>
  text: string
}

/** A websocket client that keeps all it gets. */
export class Listener {
  readonly ws: WebSocket
  /** Text frames parsed, binary frames as they came, in order. */
  readonly seen: (SeenMessage | Buffer)[] = []

  constructor(url: string, clientId?: string, headers: Record<string, string> = {}) {
    const query = clientId === undefined ? '' : `?clientId=${encodeURIComponent(clientId)}`
    this.ws = new WebSocket(`${url.replace('http', 'ws')}/ws${query}`, { headers, perMessageDeflate: false })
    this.ws.on('error', () => undefined)
    this.ws.on('message', (data: Buffer, isBinary) => {
      if (isBinary) this.seen.push(data)
      else this.seen.push({ ...(JSON.parse(String(data)) as Omit<SeenMessage, 'text'>), text: String(data) })
    })
  }

  static async open(url: string, clientId?: string): Promise<Listener> {
    const listener = new Listener(url, clientId)
    await until(() => listener.seen.length > 0, 'the first message')
    return listener
  }

  get messages(): SeenMessage[] {
    return this.seen.filter((each): each is SeenMessage => !Buffer.isBuffer(each))
  }

  get types(): string[] {
    return this.messages.map(({ type }) => type)
  }

  has(type: string, promptId?: string): boolean {
    return this.messages.some((each) => each.type === type && (!promptId || each.data.prompt_id === promptId))
  }

  /** Waits for the last message of a prompt. */
  ended(promptId: string): Promise<void> {
    const isEnd = ({ type, data }: SeenMessage) =>
      type === 'executing' && data.node === null && data.prompt_id === promptId
    return until(() => this.messages.some(isEnd), `the end of ${promptId}`)
  }

  async close(): Promise<void> {
    if (this.ws.readyState === WebSocket.CLOSED) return
    const closed = once(this.ws, 'close')
    this.ws.close()
    await closed
  }
}
