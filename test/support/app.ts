import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { createApp, type Gateway } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import {
  createSimulatedWorker,
  type SimulatedWorker,
  type SimulatedWorkerOptions,
} from '../../src/demo/simulated-worker.ts'

/** Clocks of a gateway under test: short enough that nobody waits, in the same order of size as the real ones. */
const FAST: Readonly<Record<string, string>> = {
  PORT: '0',
  EDITOR_PORT: '0',
  LOG_LEVEL: process.env.TEST_LOG_LEVEL ?? 'silent',
  STORE: 'memory',
  HEALTH_INTERVAL_MS: '100',
  CONNECT_TIMEOUT_MS: '500',
  PROMPT_TIMEOUT_MS: '2000',
  QUEUE_CACHE_TTL_SECONDS: '0.5',
  SUSPECT_AFTER_MS: '3000',
  REFUSED_GIVE_UP_MS: '300',
  GIVE_UP_SECONDS: '5',
  WORKER_REQUEST_TIMEOUT: '5',
}

export interface TestGateway {
  readonly gateway: Gateway
  readonly url: string
  readonly workers: readonly SimulatedWorker[]
  /** Stops it as SIGTERM would. */
  close(): Promise<void>
}

export interface TestGatewayOptions {
  /** Options of each worker, or how many of the plain kind. */
  workers?: number | readonly SimulatedWorkerOptions[]
  /** Workers that run already. */
  running?: readonly SimulatedWorker[]
  /** Settings beside the fast ones. */
  env?: Readonly<Record<string, string>>
  /** Kept when given; else a folder of its own that is removed. */
  dataDir?: string
  /** True (default): resolves when every worker is available. */
  untilHealthy?: boolean
}

/** A whole gateway on a free port, with simulated workers. Close it in `afterEach`. */
export async function buildTestGateway(options: TestGatewayOptions = {}): Promise<TestGateway> {
  const wanted = options.workers ?? 0
  const list = typeof wanted === 'number' ? Array.from({ length: wanted }, () => ({})) : wanted
  const made = await Promise.all(list.map((each, index) => createSimulatedWorker({ seed: index + 1, ...each })))
  const workers = [...(options.running ?? []), ...made]
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'comfyfleet-')))
  const config = loadConfig({
    env: {
      ...FAST,
      DATA_DIR: dataDir,
      ...(workers.length > 0 ? { WORKERS: workers.map(({ url }) => url).join(',') } : {}),
      ...options.env,
    },
    cwd: dataDir,
  })
  const gateway = await createApp(config, { log: pino({ level: config.LOG_LEVEL }) })
  const url = await gateway.listen()
  if (options.untilHealthy ?? true) await until(() => gateway.workers().every((worker) => worker.isUp))
  return {
    gateway,
    url,
    workers,
    async close() {
      await gateway.close()
      await Promise.all(made.map((worker) => worker.close()))
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** Looks until it is so; throws after the deadline with what was seen last. */
export async function until<T>(
  look: () => T | Promise<T>,
  options: { deadlineMs?: number; what?: string } = {},
): Promise<NonNullable<T>> {
  const deadline = performance.now() + (options.deadlineMs ?? 10_000)
  for (;;) {
    const seen = await look()
    if (seen) return seen as NonNullable<T> // It is truthy.
    if (performance.now() > deadline) throw new Error(`not reached in time: ${options.what ?? look.toString()}`)
    await new Promise<void>((resolve) => setImmediate(() => setTimeout(resolve, 5)))
  }
}
