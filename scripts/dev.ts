import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Runs the gateway, restarted on a change, beside the page's dev server. One that ends takes the other with it. */
const root = fileURLToPath(new URL('..', import.meta.url))

// The programs' own files instead of npm or npx: nothing in between that would swallow a signal.
const children: ChildProcess[] = [
  start('', 'node_modules/tsx/dist/cli.mjs', ['watch', '--clear-screen=false', 'src/main.ts']),
  start('frontend', 'node_modules/vite/bin/vite.js', ['--clearScreen', 'false']),
]

for (const child of children) child.once('exit', () => stop('SIGTERM'))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop(signal))

function start(folder: string, program: string, args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [`${root}${program}`, ...args], { cwd: `${root}${folder}`, stdio: 'inherit' })
}

function stop(signal: NodeJS.Signals): void {
  for (const child of children) child.kill(signal)
}
