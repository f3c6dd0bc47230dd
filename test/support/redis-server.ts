import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface RedisServer {
  readonly port: number
  readonly url: string
  readonly pid: number
  /** Ends it as a power cut would, and waits until it is gone. */
  kill(): Promise<void>
  /** Starts it again after `kill`, on the same port with the same data; resolves when it answers. */
  start(): Promise<void>
  /** Ends it and removes its data. */
  stop(): Promise<void>
}

/** False where the package `redis-server` is not installed. */
export const hasRedisServer = spawnSync('redis-server', ['--version']).error === undefined

/** A Redis of our own on a free port, in a temporary folder, which fsyncs every write. Settings as on its command line. */
export async function startRedis(settings: Readonly<Record<string, string>> = {}): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), 'redis-'))
  const port = await freePort()
  const given = { port: String(port), bind: '127.0.0.1', dir: folder, save: '', appendonly: 'yes', ...settings }
  const args = Object.entries({ appendfsync: 'always', daemonize: 'no', ...given }).flatMap(([name, value]) => [
    `--${name}`,
    value,
  ])
  let child: ChildProcess | undefined

  async function start(): Promise<void> {
    child = spawn('redis-server', args, { stdio: 'ignore' })
    await answers(port, child)
  }

  async function kill(): Promise<void> {
    const ending = child
    child = undefined
    if (ending === undefined || ending.exitCode !== null) return
    const exited = once(ending, 'exit')
    ending.kill('SIGKILL')
    await exited
  }

  await start()
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      if (child?.pid === undefined) throw new Error('The server does not run')
      return child.pid
    },
    kill,
    start,
    async stop() {
      await kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** Asks until it answers, with whatever answer. */
async function answers(port: number, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!(await pongs(port))) {
    if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}`)
    if (performance.now() > deadline) throw new Error('redis-server does not answer')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

function pongs(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' }, () => socket.write('PING\r\n'))
    socket.setTimeout(1_000, () => socket.destroy())
    socket.on('data', (data) => {
      resolve(!data.toString().startsWith('-LOADING'))
      socket.destroy()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(false))
  })
}
