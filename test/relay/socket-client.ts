import { once } from 'node:events'
import { WebSocket } from 'ws'

/** A client as it is met outside: it keeps what it gets and is asked about it. */
export class SocketClient {
  /** Text frames as they came, and binary frames. */
  readonly frames: (string | Buffer)[] = []
  readonly #socket: WebSocket
  readonly #closed: Promise<{ code: number; reason: string }>
  #wake: () => void = () => {}

  private constructor(socket: WebSocket) {
    this.#socket = socket
    this.#closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
    })
    socket.on('message', (data: Buffer, isBinary) => {
      this.frames.push(isBinary ? data : data.toString('utf8'))
      this.#wake()
    })
    socket.on('error', () => {})
  }

  static async connect(url: string, options: { autoPong?: boolean; features?: object } = {}): Promise<SocketClient> {
    const socket = new WebSocket(url, { autoPong: options.autoPong ?? true })
    const client = new SocketClient(socket)
    await once(socket, 'open')
    if (options.features) {
      socket.send(JSON.stringify({ type: 'feature_flags', data: options.features }))
      await client.until((frames) =>
        frames.some((frame) => typeof frame === 'string' && frame.includes('feature_flags')),
      )
    }
    await client.until((frames) => frames.length > 0)
    return client
  }

  /** What it was told, in short: `status 1`, `execution_start p`, `executing p:2`, `executing p:null`, `<12 bytes>`. */
  get story(): string[] {
    return this.frames.map((frame) => (typeof frame === 'string' ? tell(frame) : `<${frame.length} bytes>`))
  }

  /** The story without `status`. */
  get plot(): string[] {
    return this.story.filter((line) => !line.startsWith('status'))
  }

  get closed(): Promise<{ code: number; reason: string }> {
    return this.#closed
  }

  send(data: string | Uint8Array): void {
    this.#socket.send(data)
  }

  /** Resolves as soon as the frames are as asked for; throws after ten seconds. */
  async until(isReached: (frames: readonly (string | Buffer)[]) => boolean): Promise<void> {
    const deadline = Date.now() + 10_000
    while (!isReached(this.frames)) {
      if (Date.now() > deadline) throw new Error(`not reached: ${JSON.stringify(this.story).slice(-2000)}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 200)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  async untilTold(line: string): Promise<void> {
    await this.until(() => this.story.includes(line))
  }

  async leave(): Promise<void> {
    this.#socket.close()
    await this.#closed
  }

  terminate(): void {
    this.#socket.terminate()
  }
}

/** One text frame in short. */
export function tell(text: string): string {
  const { type, data } = JSON.parse(text) as { type: string; data: Record<string, unknown> }
  switch (type) {
    case 'status':
      return `status ${(data.status as { exec_info: { queue_remaining: number } }).exec_info.queue_remaining}`
    case 'executing':
    case 'executed':
      return `${type} ${data.prompt_id}:${data.node}`
    case 'progress':
      return `progress ${data.prompt_id}:${data.value}`
    default:
      return `${type} ${data.prompt_id ?? ''}`.trim()
  }
}
