import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { Catalogue } from './catalogue.ts'
import type { ExtraClass } from './classes.ts'
import { ECHO_SOCKET, EchoSockets } from './custom-node.ts'
import { Engine } from './engine.ts'
import { FaultPlan } from './faults.ts'
import { FileStore } from './files.ts'
import { Gate } from './gate.ts'
import { type HttpOptions, handleHttp, refusal } from './http.ts'
import { bareRoute, Ledger, type LedgerEvent } from './ledger.ts'
import type { Pace } from './nodes.ts'
import type { PyDumpable } from './py-json.ts'
import { SocketHub } from './socket.ts'
import { ImageCache } from './tooling-nodes.ts'
import { features, type UserFile, type WorkerState, type WorkerVersion } from './worker-state.ts'

export interface SimulatedWorkerOptions {
  /** 0 (default) takes a free one. */
  port?: number
  host?: string
  version?: WorkerVersion
  name?: string
  vramBytes?: number
  /** Decides the random letters in names of temp files. */
  seed?: number
  /** ms per node, per sampler step and per tick of TestSleep; default 0, 0, 10. */
  pace?: Partial<Pace>
  /** ms before each HTTP answer; default 0. */
  latencyMs?: number
  /** JPEG previews at every sampler step; default true. */
  previews?: boolean
  /** Folder -> model names; default none. */
  models?: Readonly<Record<string, readonly string[]>>
  missingClasses?: readonly string[]
  extraClasses?: readonly ExtraClass[]
  /** Extensions of the demo's own editor beside ComfyUI's, as `<pack>/<file without .js>`; default none. */
  extensions?: readonly string[]
  /** Basic auth on every request, websocket included. */
  auth?: { username: string; password: string }
  /** Keeps output and input files here, so they outlive the process; default: memory only. */
  folder?: string
  /** Oldest outputs go when files need more; default 512 MiB. */
  maxFileBytes?: number
  /** How many requests, runs and files the ledger keeps at least; default 100,000. */
  maxLedgerEntries?: number
  /** Hears what the ledger notes as it happens. */
  onLedgerEvent?: (event: LedgerEvent) => void
  /** A POISON prompt ran; default: `kill()`. */
  onKill?: (worker: SimulatedWorker, promptId: string) => void
}

const DEFAULT_FILE_BYTES = 512 * 1024 * 1024
const DEFAULT_LEDGER_ENTRIES = 100_000
const DEFAULT_VRAM_BYTES = 24 * 1024 ** 3
/** As aiohttp. */
const KEEP_ALIVE_MS = 75_000

/** Starts a ComfyUI without a GPU. It answers and behaves like the real one, and misbehaves when told to. */
export async function createSimulatedWorker(options: SimulatedWorkerOptions = {}): Promise<SimulatedWorker> {
  const worker = new SimulatedWorker(options)
  await worker.start()
  return worker
}

/** A running simulated worker and the strings to pull. Made by `createSimulatedWorker`. */
export class SimulatedWorker {
  readonly ledger: Ledger
  readonly faults = new FaultPlan()
  readonly files: FileStore
  /** Pictures in its memory, by their ids. */
  readonly images = new ImageCache()
  readonly catalogue: Catalogue
  /** Workflows and the like that somebody left on it, by path. */
  readonly userdata = new Map<string, UserFile>()
  /** Change it at run time; it counts from the next node, step or tick on. */
  readonly pace: Pace
  readonly name: string
  readonly #options: SimulatedWorkerOptions
  readonly #hub: SocketHub
  readonly #echo = new EchoSockets()
  readonly #gate = new Gate()
  readonly #state: WorkerState
  readonly #http: HttpOptions
  readonly #host: string
  #waitingRequests = 0
  #server: Server | undefined
  #port: number
  #life = 0
  #random: number

  constructor(options: SimulatedWorkerOptions) {
    const version = options.version ?? '0.3.64'
    this.#options = options
    this.#host = options.host ?? '127.0.0.1'
    this.#port = options.port ?? 0
    this.#random = (options.seed ?? 1) >>> 0
    this.name = options.name ?? 'Simulated GPU'
    this.pace = { nodeMs: 0, stepMs: 0, tickMs: 10, ...options.pace }
    this.ledger = new Ledger({
      maxEntries: options.maxLedgerEntries ?? DEFAULT_LEDGER_ENTRIES,
      onEvent: options.onLedgerEvent,
    })
    this.files = new FileStore({
      maxBytes: options.maxFileBytes ?? DEFAULT_FILE_BYTES,
      ...(options.folder === undefined ? {} : { folder: options.folder }),
    })
    this.catalogue = new Catalogue({
      files: this.files,
      models: options.models ?? {},
      missingClasses: options.missingClasses ?? [],
      extraClasses: options.extraClasses ?? [],
      is2026: version === '2026',
    })
    this.#hub = new SocketHub({
      features: () => features(version),
      queueRemaining: () => this.#state.engine.queueRemaining,
      greet: (sid) => {
        const node = this.#state.engine.activeNodeOf(sid)
        return node === undefined ? [] : [{ type: 'executing', data: { node } }]
      },
    })
    this.#state = {
      version,
      name: this.name,
      vramBytes: options.vramBytes ?? DEFAULT_VRAM_BYTES,
      engine: this.#newEngine(),
      catalogue: this.catalogue,
      files: this.files,
      images: this.images,
      settings: new Map(),
      userdata: this.userdata,
      extensions: options.extensions ?? [],
    }
    this.#http = {
      state: this.#state,
      ledger: this.ledger,
      faults: this.faults,
      gate: this.#gate,
      auth: options.auth,
      latencyMs: options.latencyMs ?? 0,
      life: () => this.#life,
    }
  }

  get port(): number {
    return this.#port
  }

  get url(): string {
    return `http://${this.#host}:${this.#port}`
  }

  /** Prompts running and pending. */
  get queueRemaining(): number {
    return this.#state.engine.queueRemaining
  }

  get isListening(): boolean {
    return this.#server !== undefined
  }

  /** Open websockets, forgotten ones included. */
  get openSockets(): number {
    return this.#hub.size
  }

  /** HTTP requests that came and are not answered yet. */
  get waitingRequests(): number {
    return this.#waitingRequests
  }

  /** Listens, on the same port as before after `kill`. Rejects when the port is taken. */
  async start(): Promise<void> {
    if (this.#server) return
    const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0 })
    server.on('request', (request, response) => {
      // A socket that breaks while it is written to is the client's business.
      response.on('error', () => response.destroy())
      this.#waitingRequests += 1
      response.once('close', () => {
        this.#waitingRequests -= 1
      })
      handleHttp(this.#http, request, response).catch(() => response.destroy())
    })
    server.on('upgrade', (request, socket, head) => void this.#upgrade(request, socket, head))
    server.on('clientError', (_error, socket) => socket.destroy())
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, this.#host, resolve)
    })
    this.#server = server
    // A server that listens on TCP has an address of this form.
    this.#port = (server.address() as AddressInfo).port
  }

  /** Ends like `kill -9`: connections are cut, and what was in memory (queue, history, temp files) is gone. Files stay. */
  async kill(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    this.#life += 1
    this.#loseMemory()
    this.#state.settings.clear()
    this.images.clear()
    this.files.clearTemp()
    this.#hub.terminateAll()
    this.#echo.terminateAll()
    this.thaw()
    if (!server) return
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeAllConnections()
    await closed
  }

  /** `kill` and `start` at once; `wipeDisk` empties output and input, too. */
  async restart({ wipeDisk = false }: { wipeDisk?: boolean } = {}): Promise<void> {
    await this.kill()
    if (wipeDisk) this.files.wipe()
    await this.start()
  }

  close(): Promise<void> {
    return this.kill()
  }

  /** Stands still like a stopped process: connections stay open and are taken, nothing is answered, sent or run. */
  freeze(): void {
    this.#gate.shut()
    this.#hub.freeze()
  }

  /** Goes on where it stood, late requests included. */
  thaw(): void {
    this.#gate.open()
    this.#hub.thaw()
  }

  /** Loses queue, running prompt and history without a word, and stays up. */
  forget(): void {
    this.#loseMemory()
  }

  /** Cuts every websocket; what runs goes on. */
  killSockets(): void {
    this.#hub.terminateAll()
  }

  /** Sends an event to every websocket, as custom nodes do. */
  broadcast(type: string, data: PyDumpable): void {
    this.#hub.send(type, data, undefined)
  }

  /** Websockets stay open and get nothing any more; messages meanwhile are lost. */
  mute(): void {
    this.#hub.isMuted = true
  }

  unmute(): void {
    this.#hub.isMuted = false
  }

  #loseMemory(): void {
    this.#state.engine.stop()
    this.#state.engine = this.#newEngine()
  }

  #newEngine(): Engine {
    return new Engine({
      hub: this.#hub,
      catalogue: this.catalogue,
      files: this.files,
      images: this.images,
      ledger: this.ledger,
      gate: this.#gate,
      pace: this.pace,
      sendPreviews: this.#options.previews ?? true,
      vramBytes: this.#options.vramBytes ?? DEFAULT_VRAM_BYTES,
      randomLetters: () => this.#randomLetters(),
      onPoison: (promptId) => {
        if (this.#options.onKill) this.#options.onKill(this, promptId)
        else void this.kill()
      },
    })
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy())
    const life = this.#life
    await this.#gate.pass()
    if (life !== this.#life) {
      socket.destroy()
      return
    }
    const url = request.url ?? '/'
    this.ledger.request({ method: 'GET', path: url, headers: request.headers }, Buffer.alloc(0))
    const fault = this.faults.take('GET', bareRoute(url))
    if (fault?.kind === 'hang' || fault?.kind === 'hang-after') return
    const refused = refusal(this.#http, request)
    const isKnown = bareRoute(url) === '/ws' || bareRoute(url) === ECHO_SOCKET
    const status = fault?.kind === 'status' ? fault.status : refused ? refused.status : isKnown ? 101 : 404
    if (fault && fault.kind !== 'status') {
      request.socket.resetAndDestroy()
    } else if (status !== 101) {
      const extra = status === 401 ? 'www-authenticate: Basic realm="ComfyUI"\r\n' : ''
      socket.end(
        `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${extra}content-length: 0\r\nconnection: close\r\n\r\n`,
      )
    } else if (bareRoute(url) === ECHO_SOCKET) {
      this.#echo.accept(request, socket, head)
    } else {
      const clientId = new URLSearchParams(url.split('?')[1] ?? '').get('clientId') ?? ''
      this.#hub.accept(request, socket, head, clientId)
    }
  }

  #randomLetters(): string {
    let letters = ''
    for (let index = 0; index < 5; index += 1) {
      this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0
      letters += 'abcdefghijklmnopqrstupvxyz'[Math.floor((this.#random / 2 ** 32) * 26)]
    }
    return letters
  }
}
