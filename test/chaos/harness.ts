import { setMaxListeners } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { LedgerEvent } from '../../src/demo/ledger.ts'
import { readPng } from '../../src/demo/png.ts'
import { until } from '../support/app.ts'
import { type ChaosVerdict, checkChaos } from './checker.ts'
import { ChaosClient } from './client.ts'
import type { ChaosPlan, PlannedFault } from './plan.ts'
import { freePorts, Program } from './process.ts'
import type { ChaosRecord, HistoryEntry, HistoryFile, Run, SeenPicture } from './record.ts'

export interface ChaosReport extends ChaosVerdict {
  seed: number
  /** From the first submission until the last prompt had ended. */
  elapsedMs: number
  /** The gateway, from each start until it answered. */
  readyMs: readonly number[]
  /** What was killed, in order, with how many prompts had ended by then. */
  story: readonly string[]
  /** What the gateway logged as errors, each message with its number. */
  logged: Readonly<Record<string, number>>
  /** Logs, ledgers and the database; kept when something is wrong. */
  folder: string
}

/** Clocks as short as those of the other tests. */
const SETTINGS: Readonly<Record<string, string>> = {
  LOG_LEVEL: 'debug',
  STORE: 'sqlite',
  HEALTH_INTERVAL_MS: '100',
  CONNECT_TIMEOUT_MS: '500',
  PROMPT_TIMEOUT_MS: '2000',
  QUEUE_CACHE_TTL_SECONDS: '0.5',
  SUSPECT_AFTER_MS: '3000',
  GIVE_UP_SECONDS: '10',
  WORKER_REQUEST_TIMEOUT: '5',
}
const LANES = 3
const MAIN = '../../src/main.ts'
const WORKER_MAIN = '../../src/demo/worker-main.ts'

/** Runs a fleet of processes under fire and checks what became of each prompt. */
export async function runChaos(plan: ChaosPlan, options: { deadlineMs: number }): Promise<ChaosReport> {
  const folder = await mkdtemp(join(tmpdir(), 'comfyfleet-chaos-'))
  const [port = 0, ...workerPorts] = await freePorts(plan.scale.workers + 1)
  const url = `http://127.0.0.1:${port}`
  const workers = workerPorts.map((workerPort, index) => workerProgram(workerPort, index, folder))
  const gateway = new Program({
    name: 'gateway',
    kind: 'gateway',
    script: MAIN,
    args: [],
    env: {
      ...SETTINGS,
      PORT: String(port),
      EDITOR_PORT: '0',
      DATA_DIR: join(folder, 'data'),
      WORKERS: workerPorts.map((workerPort) => `http://127.0.0.1:${workerPort}`).join(','),
      REFUSED_GIVE_UP_MS: String(plan.refusedGiveUpMs),
    },
    folder,
    readyUrl: `${url}/prompt`,
  })
  let ended = 0
  const clients = plan.work.map(
    (work, index) => new ChaosClient({ id: `client-${index}`, url, work, lanes: LANES, onEnd: () => ended++ }),
  )
  try {
    await Promise.all(workers.map((worker) => worker.start()))
    await gateway.start()
    const startedAt = performance.now()
    const signal = AbortSignal.timeout(options.deadlineMs)
    setMaxListeners(0, signal)
    const story: string[] = []
    const strike = async (): Promise<void> => {
      const restarts: Promise<void>[] = []
      for (const fault of plan.faults) {
        await until(() => ended >= fault.afterEnded || signal.aborted, { deadlineMs: options.deadlineMs + 1_000 })
        await pause(fault.delayMs)
        const target = fault.target.kind === 'gateway' ? gateway : workers[fault.target.index]
        if (!target) continue
        // Alive is enough: the next kill may come while it still takes up what the kill before left.
        await until(() => target.isAlive)
        story.push(`${ended} ended: ${target.name} killed, down for ${fault.downMs} ms`)
        await target.kill()
        restarts.push(restart(target, fault))
      }
      await Promise.all(restarts)
    }
    // A prompt whose end is never told is for the checker to find, with all the rest.
    await Promise.all([strike(), Promise.allSettled(clients.map((client) => client.run(signal)))])
    const elapsedMs = Math.round(performance.now() - startedAt)
    const submissions = clients.flatMap((client) => client.submissions)
    const ids = submissions.flatMap(({ promptId }) => promptId ?? [])
    const histories = await readHistories(url, ids)
    const record: ChaosRecord = {
      submissions,
      sockets: clients.flatMap((client) => client.sockets),
      runs: (
        await Promise.all(workers.map((worker) => readRuns(join(folder, `${worker.name}.ledger`), worker.name)))
      ).flat(),
      deaths: [gateway, ...workers].flatMap((program) => program.deaths),
      histories,
      pictures: await readPictures(url, histories),
      surprises: [gateway, ...workers].flatMap((program) => program.surprises),
    }
    const verdict = checkChaos(record)
    const logged = errorsIn(await readFile(gateway.logFile, 'utf8'))
    return { ...verdict, seed: plan.seed, elapsedMs, readyMs: gateway.readyMs, story, logged, folder }
  } finally {
    for (const client of clients) client.close()
    await Promise.all([gateway, ...workers].map((program) => program.end()))
  }
}

/** Removes what a run left, unless something was wrong with it or `CHAOS_KEEP` is set. */
export async function tidyChaos({ folder, violations }: ChaosReport): Promise<void> {
  if (violations.length === 0 && process.env.CHAOS_KEEP === undefined)
    await rm(folder, { recursive: true, force: true })
}

export function describeChaos(report: ChaosReport): string {
  const { figures } = report
  const rows = {
    seed: report.seed,
    ...figures,
    extraRuns: `${figures.extraRuns} (${((100 * figures.extraRuns) / figures.accepted).toFixed(1)} %)`,
    givenUp: JSON.stringify(figures.givenUp),
    'errors logged': JSON.stringify(report.logged),
    'gateway ready after (ms)': report.readyMs.join(', '),
    'elapsed (ms)': report.elapsedMs,
    violations: report.violations.length,
  }
  return [
    ...Object.entries(rows).map(([name, value]) => `${name.padEnd(26)} ${value}`),
    ...report.story.map((line) => `  ${line}`),
    ...report.violations.map(({ rule, text }) => `  ${rule}: ${text}`),
    `logs and ledgers, kept when something is wrong: ${report.folder}`,
  ].join('\n')
}

const ERROR_LEVEL = 50

function errorsIn(log: string): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const line of log.split('\n').filter((each) => each.startsWith('{') && each.endsWith('}'))) {
    const { level, msg } = JSON.parse(line) as { level: number; msg: string }
    if (level >= ERROR_LEVEL) counts[msg] = (counts[msg] ?? 0) + 1
  }
  return counts
}

function workerProgram(port: number, index: number, folder: string): Program {
  const name = `worker-${index}`
  return new Program({
    name,
    kind: 'worker',
    script: WORKER_MAIN,
    args: [
      ...['--port', String(port), '--name', name, '--seed', String(index + 1)],
      ...['--folder', join(folder, `${name}.files`), '--ledger', join(folder, `${name}.ledger`)],
      // Old and new releases in one fleet.
      ...['--version', index % 2 === 0 ? '0.3.64' : '2026'],
    ],
    env: {},
    folder,
    readyUrl: `http://127.0.0.1:${port}/prompt`,
  })
}

async function restart(program: Program, { downMs }: PlannedFault): Promise<void> {
  await pause(downMs)
  await program.start()
}

async function readHistories(url: string, ids: readonly string[]): Promise<Map<string, HistoryEntry | undefined>> {
  const histories = new Map<string, HistoryEntry | undefined>()
  for (const id of ids) {
    const response = await fetch(`${url}/history/${encodeURIComponent(id)}`)
    histories.set(id, ((await response.json()) as Record<string, HistoryEntry>)[id])
  }
  return histories
}

/** Each file twice: by its `url`, and by its name as clients ask that know of no `url`. */
async function readPictures(
  url: string,
  histories: ReadonlyMap<string, HistoryEntry | undefined>,
): Promise<Map<string, SeenPicture[]>> {
  const pictures = new Map<string, SeenPicture[]>()
  for (const [id, entry] of histories) {
    const files = Object.values(entry?.outputs ?? {}).flatMap(({ images }) => images ?? [])
    const seen: SeenPicture[] = []
    for (const file of files) {
      seen.push(await readPicture(new URL(file.url, url).href), await readPicture(`${url}/view?${queryOf(file)}`))
    }
    pictures.set(id, seen)
  }
  return pictures
}

const queryOf = ({ filename, subfolder, type }: HistoryFile): URLSearchParams =>
  new URLSearchParams({ filename, subfolder, type })

async function readPicture(url: string): Promise<SeenPicture> {
  const response = await fetch(url)
  const bytes = Buffer.from(await response.arrayBuffer())
  return { url, status: response.status, picture: response.ok ? readPng(bytes)?.picture : undefined }
}

/** The runs of a worker over all its lives, with the colour of the graph that each was posted with. */
async function readRuns(file: string, worker: string): Promise<Run[]> {
  const colours = new Map<string, number>()
  const open = new Map<string, Run>()
  const runs: Run[] = []
  const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '')
  for (const event of lines.map((line) => JSON.parse(line) as LedgerEvent)) {
    if (event.kind === 'posted') {
      const { prompt_id: id, prompt } = JSON.parse(event.body) as {
        prompt_id: string
        prompt: Record<string, { inputs: { color?: number } }>
      }
      const colour = prompt['1']?.inputs.color
      if (colour !== undefined) colours.set(id, colour)
    } else if (event.kind === 'started') {
      const run: Run = {
        worker,
        colour: colours.get(event.promptId),
        startedAt: event.at,
        endedAt: undefined,
        // Until it is read that it ended otherwise.
        outcome: 'killed',
      }
      runs.push(run)
      open.set(event.promptId, run)
    } else {
      const run = open.get(event.promptId)
      if (run) Object.assign(run, { endedAt: event.at, outcome: event.outcome })
    }
  }
  return runs
}
