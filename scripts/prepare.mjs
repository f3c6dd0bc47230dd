// Installs when the lock file changed and builds when a source changed. Plain JavaScript without dependencies, since
// it runs before anything is installed; run.sh and run.bat both call it.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const manifests = ['package.json', 'package-lock.json', 'frontend/package.json']
const sources = ['src', 'frontend/src', 'frontend/index.html', 'frontend/vite.config.ts', 'frontend/tsconfig.json']
const buildScripts = ['scripts/clean.mjs', 'scripts/copy-lua.mjs']
const buildFiles = [...sources, 'tsconfig.json', 'tsconfig.build.json', ...buildScripts, ...manifests]

// Each stamp lies in the folder it vouches for: removing the folder removes the claim, and so does a step that died.
step({
  stamp: 'node_modules/.installed',
  state: digest(manifests, `${process.platform} ${process.arch} ${process.versions.modules}`),
  title: 'Installing dependencies (only after a change of package-lock.json)',
  // NODE_ENV=production would leave out the compiler.
  command: ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'],
})
step({
  stamp: 'dist/.built',
  state: digest(buildFiles, ''),
  title: 'Building (only after a change of the sources)',
  command: ['run', '--silent', 'build'],
})

function step({ stamp, state, title, command }) {
  const path = join(root, stamp)
  if (existsSync(path) && readFileSync(path, 'utf8') === state) return
  console.error(title)
  // On Windows npm is a .cmd file, which only a shell can start. The arguments are constants.
  const { status, error } = spawnSync('npm', command, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  })
  if (error !== undefined || status !== 0) {
    const reason = error?.code === 'ENOENT' ? 'npm was not found; it comes with Node' : 'see the messages above'
    console.error(`"npm ${command.join(' ')}" failed: ${reason}.`)
    process.exit(1)
  }
  writeFileSync(path, state)
}

/** A hash over names and contents of files and of everything in folders. */
function digest(paths, extra) {
  const hash = createHash('sha256').update(extra)
  for (const path of paths.flatMap(filesIn)) hash.update(`\0${path}\0`).update(readFileSync(join(root, path)))
  return hash.digest('hex')
}

function filesIn(path) {
  if (!statSync(join(root, path)).isDirectory()) return [path]
  return readdirSync(join(root, path))
    .sort()
    .flatMap((name) => filesIn(`${path}/${name}`))
}
