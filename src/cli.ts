#!/usr/bin/env node
import { pathToFileURL } from 'node:url'
import { startSimulatedFleet } from './demo/fleet.ts'
import { verifyFleet } from './verify/verify.ts'

const HELP = `Usage: comfyfleet [command]

  start   the gateway (default); settings come from the environment and .env
  demo    the gateway in front of three simulated workers, kept in memory
  verify <url>
          uses every worker of the running gateway at <url> once and prints what it found; exits with 1 if
          something failed
`

const DEMO_WORKERS = 3
/** So that a person can watch a prompt run. */
const DEMO_PACE = { nodeMs: 300, stepMs: 150 }

/** Starts what the first argument names. Resolves when it runs. */
export async function run(args: readonly string[]): Promise<void> {
  const [command = 'start', ...rest] = args
  const [url] = rest
  if (command === 'verify' && url !== undefined && rest.length === 1) {
    const isWell = await verifyFleet(url, { write: (text) => process.stdout.write(text) })
    process.exitCode = isWell ? 0 : 1
    return
  }
  if (rest.length > 0 || !['start', 'demo'].includes(command)) {
    process.stderr.write(HELP)
    process.exitCode = 2
    return
  }
  if (command === 'demo') {
    const workers = await startSimulatedFleet(DEMO_WORKERS, {
      pace: DEMO_PACE,
      extensions: ['demo/panel'],
      models: { checkpoints: ['dreamy.safetensors', 'sharp.safetensors'], loras: ['soft.safetensors'] },
    })
    process.env.WORKERS = workers.map(({ url }) => url).join(',')
    process.env.STORE = 'memory'
  }
  await import('./main.ts')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await run(process.argv.slice(2))
