/**
 * Runs a simulated worker as a process: `--port N --host H --version 0.3.64|2026 --seed N --name TEXT --folder DIR
 * --auth USER:PASSWORD --vram-gb N --latency-ms N --node-ms N --step-ms N --checkpoint NAME... --lora NAME...
 * --ledger FILE`
 * Prints one line of JSON, `{"url": ...}`, when it listens; ends on SIGTERM; a POISON prompt ends it with exit code 1.
 * The ledger file gets a line of JSON for each posted prompt and each start and end of a run, and outlives the process.
 */
import { openSync, writeSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { createSimulatedWorker } from './simulated-worker.ts'

/** A process may run for weeks; its ledger is for nobody. */
const LEDGER_ENTRIES = 100

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    version: { type: 'string', default: '0.3.64' },
    seed: { type: 'string', default: '1' },
    name: { type: 'string' },
    host: { type: 'string', default: '127.0.0.1' },
    folder: { type: 'string' },
    auth: { type: 'string' },
    'vram-gb': { type: 'string', default: '24' },
    'latency-ms': { type: 'string', default: '0' },
    'node-ms': { type: 'string', default: '0' },
    'step-ms': { type: 'string', default: '0' },
    checkpoint: { type: 'string', multiple: true, default: [] },
    lora: { type: 'string', multiple: true, default: [] },
    ledger: { type: 'string' },
  },
})

const ledgerFile = values.ledger === undefined ? undefined : openSync(values.ledger, 'a')

const [username = '', ...password] = values.auth?.split(':') ?? []

const worker = await createSimulatedWorker({
  port: Number(values.port),
  version: values.version === '2026' ? '2026' : '0.3.64',
  host: values.host,
  vramBytes: Number(values['vram-gb']) * 1024 ** 3,
  latencyMs: Number(values['latency-ms']),
  seed: Number(values.seed),
  pace: { nodeMs: Number(values['node-ms']), stepMs: Number(values['step-ms']) },
  models: { checkpoints: values.checkpoint, loras: values.lora },
  maxLedgerEntries: LEDGER_ENTRIES,
  onKill: () => process.exit(1),
  onLedgerEvent: (event) => {
    // At once and in one call, so that a killed process leaves whole lines and forgets nothing that it did.
    if (ledgerFile !== undefined) writeSync(ledgerFile, `${JSON.stringify(event)}\n`)
  },
  ...(values.name === undefined ? {} : { name: values.name }),
  ...(values.auth === undefined ? {} : { auth: { username, password: password.join(':') } }),
  ...(values.folder === undefined ? {} : { folder: values.folder }),
})

process.once('SIGTERM', () => void worker.close().then(() => process.exit(0)))
process.once('SIGINT', () => void worker.close().then(() => process.exit(0)))
process.stdout.write(`${JSON.stringify({ url: worker.url })}\n`)
