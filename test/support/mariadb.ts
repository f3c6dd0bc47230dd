import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { createConnection } from 'mysql2/promise'
import type { MysqlSettings } from '../../src/store/sql/mysql-pool.ts'
import { freePort } from './free-port.ts'

const server = 'mariadbd'
const installer = 'mariadb-install-db'
// Where Debian keeps servers, which is not everybody's PATH.
const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/usr/local/sbin` }

/** Why no server can be started here; undefined when one can. With CI=true it is an error instead of a reason. */
export function whyNoMariaDb(): string | undefined {
  const missing = [server, installer].filter((name) => spawnSync(name, ['--help'], { env, stdio: 'ignore' }).error)
  if (missing.length === 0) return undefined
  const reason = `${missing.join(' and ')} not found: install the package mariadb-server`
  if (process.env.CI === 'true') throw new Error(reason)
  return reason
}

export interface MariaDb {
  /** How to reach a new, empty database of it. */
  freshDatabase(): Promise<MysqlSettings>
  /** Takes everything out of a database of it that has been a store, and starts its numbers anew. */
  empty(settings: MysqlSettings): Promise<void>
  /** Runs a statement as its administrator, in no database, and answers the rows. */
  query(statement: string): Promise<Record<string, unknown>[]>
  /** Runs all statements of a file in a database. */
  run(script: { database: string; file: string }): Promise<void>
  pid(): number
  /** Ends it at once, like a crash, and waits until it is gone. */
  kill(): Promise<void>
  /** Starts it again after `kill`, on the same port with the same data. */
  start(): Promise<void>
  /** Ends it and removes its data. */
  stop(): Promise<void>
}

/** Starts a server on a free port of this machine, in a folder of its own. `options` are of `mariadbd`: `--name=value`. */
export async function startMariaDb(options: readonly string[] = []): Promise<MariaDb> {
  const folder = mkdtempSync(join(tmpdir(), 'mariadb-'))
  const data = join(folder, 'data')
  const user = `--user=${userInfo().username}`
  const installed = spawnSync(
    installer,
    ['--no-defaults', `--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db', user],
    { env, encoding: 'utf8' },
  )
  if (installed.status !== 0) throw new Error(`${installer} failed: ${installed.stdout}${installed.stderr}`)
  const port = await freePort()
  const admin = { host: '127.0.0.1', port, user: 'root' }
  let running: ChildProcess | undefined
  let databases = 0

  const start = async () => {
    const own = ['--no-defaults', `--datadir=${data}`, `--socket=${join(folder, 'socket')}`, `--port=${port}`, user]
    const quiet = ['--bind-address=127.0.0.1', '--skip-name-resolve', '--innodb-buffer-pool-size=256M']
    const child = spawn(server, [...own, ...quiet, ...options], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    running = child
    let said = ''
    child.stderr?.on('data', (bytes) => {
      said = `${said}${bytes}`.slice(-5_000)
    })
    const until = performance.now() + 30_000
    for (;;) {
      try {
        const connection = await createConnection(admin)
        await connection.end()
        return
      } catch (error) {
        if (child.exitCode !== null || performance.now() > until) {
          throw new Error(`${server} does not answer: ${said}`, { cause: error })
        }
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }
  const kill = async (signal: NodeJS.Signals = 'SIGKILL') => {
    const child = running
    running = undefined
    if (child === undefined || child.exitCode !== null) return
    const gone = once(child, 'exit')
    child.kill(signal)
    await gone
  }
  const query = async (statement: string) => {
    const connection = await createConnection(admin)
    try {
      const [rows] = await connection.query(statement)
      return Array.isArray(rows) ? (rows as Record<string, unknown>[]) : []
    } finally {
      await connection.end()
    }
  }

  await start()
  return {
    freshDatabase: async () => {
      const database = `fleet_${databases++}`
      await query(`create database ${database}`)
      return { ...admin, password: undefined, database, tls: false, connections: 10 }
    },
    empty: async ({ database }) => {
      // The rest goes with the prompts.
      for (const table of ['prompts', 'prompt_files', 'records', 'leases']) {
        await query(`delete from ${database}.${table}`)
      }
      await query(`update ${database}.counters set value = 0`)
    },
    query,
    run: async ({ database, file }) => {
      const connection = await createConnection({ ...admin, database, multipleStatements: true })
      await connection.query(readFileSync(file, 'utf8'))
      await connection.end()
    },
    pid: () => running?.pid ?? 0,
    kill: () => kill(),
    start,
    stop: async () => {
      // Its data go with it, so it need not tidy up.
      await kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
