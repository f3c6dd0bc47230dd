import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { until } from '../support/app.ts'
import type { Death } from './record.ts'

const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href

export interface ProgramOptions {
  name: string
  kind: Death['kind']
  /** Relative to this folder. */
  script: string
  args: readonly string[]
  /** All of its environment but the path. */
  env: Readonly<Record<string, string>>
  /** Its working folder; its output is appended to `<name>.log` in it. */
  folder: string
  /** Asked until it answers 200. */
  readyUrl: string
}

/** A program that can be killed and started again, as often as wanted, with the same arguments. */
export class Program {
  readonly #options: ProgramOptions
  readonly deaths: Death[] = []
  /** Ends that nobody asked for. */
  readonly surprises: string[] = []
  /** From each start until it answered; ms. */
  readonly readyMs: number[] = []
  #child: ChildProcess | undefined
  #isWanted = false

  constructor(options: ProgramOptions) {
    this.#options = options
  }

  get name(): string {
    return this.#options.name
  }

  get logFile(): string {
    return `${this.#options.folder}/${this.name}.log`
  }

  /** It lives, and may be on its way up. */
  get isAlive(): boolean {
    return this.#child !== undefined && !hasEnded(this.#child)
  }

  /** Resolves when it answers, or was killed before it could. */
  async start(): Promise<void> {
    const { script, args, env, folder, readyUrl } = this.#options
    const log = openSync(this.logFile, 'a')
    const startedAt = performance.now()
    const child = spawn(process.execPath, ['--import', TSX, fileURLToPath(new URL(script, import.meta.url)), ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH ?? '', ...env },
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    this.#child = child
    this.#isWanted = true
    child.once('exit', (code, signal) => {
      if (this.#child !== child || !this.#isWanted) return
      this.surprises.push(`${this.name} ended by itself (${signal ?? code}): ${this.logTail()}`)
    })
    await until(() => hasEnded(child) || answers(readyUrl), { deadlineMs: 20_000, what: `${this.name} answers` })
    if (!hasEnded(child)) this.readyMs.push(Math.round(performance.now() - startedAt))
  }

  /** `kill -9`; resolves when it is gone. */
  async kill(): Promise<void> {
    const killedAt = Date.now()
    await this.end()
    this.deaths.push({ kind: this.#options.kind, name: this.name, killedAt, diedAt: Date.now() })
  }

  /** Ends it in the same way, when nothing is tested any more. */
  async end(): Promise<void> {
    const child = this.#child
    this.#isWanted = false
    if (!child || hasEnded(child)) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }

  logTail(characters = 2_000): string {
    return readFileSync(this.logFile, 'utf8').slice(-characters)
  }
}

const hasEnded = ({ exitCode, signalCode }: ChildProcess): boolean => exitCode !== null || signalCode !== null

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) })
    await response.arrayBuffer()
    return response.ok
  } catch {
    return false
  }
}

/** Ports below these are not given to outgoing connections, which could take one while its server is away. */
const FIRST_PORT = 20_000
const PORTS = 12_000

/** Free ports of loopback, each another. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>()
  while (ports.size < count) {
    const port = FIRST_PORT + Math.floor(Math.random() * PORTS)
    if (!ports.has(port) && (await isFree(port))) ports.add(port)
  }
  return [...ports]
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const isListening = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => resolve(true))
  })
  if (isListening) await new Promise((resolve) => server.close(resolve))
  return isListening
}
