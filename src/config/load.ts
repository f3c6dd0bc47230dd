import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseEnv } from 'node:util'
import { allowedHost, allowedOrigin, isLoopbackHost, type ListItem, passedPath, trustedProxy } from './access.ts'
import { ConfigError } from './config-error.ts'
import { type Settings, variables } from './schema.ts'
import { chosenStore, storeProblems } from './store-choice.ts'
import { readValue } from './values.ts'
import { seedsFromUrls } from './worker-list.ts'
import type { WorkerSeed } from './worker-seed.ts'
import { readWorkersFile } from './workers-file.ts'

type PlainSettings = Omit<Settings, 'WORKERS' | 'WORKERS_FILE' | 'STORE'>

/** The settings of one gateway: each variable under its own name, the workers read and checked. */
export interface Config extends Readonly<PlainSettings> {
  readonly STORE: NonNullable<Settings['STORE']>
  /** Empty when nothing is configured; then `DEFAULT_WORKER_URL` is worth a try. */
  readonly workers: readonly WorkerSeed[]
}

/**
 * Reads all settings once: defaults, then `.env` in `cwd`, then `env`. An empty value counts as not set, unknown
 * variables are ignored, relative paths start at `cwd`.
 *
 * @throws ConfigError with every mistake at once; no message holds a secret.
 */
export function loadConfig({ env, cwd }: { env: NodeJS.ProcessEnv; cwd: string }): Config {
  const problems: string[] = []
  const settings = readSettings({ ...readDotEnv(join(cwd, '.env'), problems), ...withoutEmpty(env) }, problems)
  const { WORKERS = [], WORKERS_FILE, ...rest } = settings
  const listed = seedsFromUrls(WORKERS, problems)
  const filed = WORKERS_FILE === undefined ? [] : readWorkersFile(resolve(cwd, WORKERS_FILE), problems)
  const workers = [...listed, ...filed]
  problems.push(...repeatedUrls(workers), ...contradictions(settings))
  if (problems.length > 0) throw new ConfigError(problems)

  // Without problems every variable that is set or has a default has passed its schema.
  const complete = rest as PlainSettings
  return { ...complete, STORE: chosenStore(settings), DATA_DIR: resolve(cwd, complete.DATA_DIR), workers }
}

type Texts = Readonly<Record<string, string>>

function withoutEmpty(texts: NodeJS.ProcessEnv): Texts {
  const kept: Record<string, string> = {}
  for (const [name, text] of Object.entries(texts)) if (text !== undefined && text.trim() !== '') kept[name] = text
  return kept
}

function readDotEnv(path: string, problems: string[]): Texts {
  try {
    // Editors on Windows may put a byte order mark in front; it would become part of the first name.
    return withoutEmpty(parseEnv(readFileSync(path, 'utf8').replace(/^\uFEFF/, '')))
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
    if (code !== 'ENOENT') problems.push(`.env: ${path} cannot be read (${code})`)
    return {}
  }
}

/** The variables that are right; each wrong one is a problem and stays out. */
function readSettings(texts: Texts, problems: string[]): Partial<Settings> {
  const settings: Record<string, unknown> = {}
  for (const [name, schema] of variables) {
    const text = texts[name]
    if (text === undefined) {
      if (schema.default !== undefined) settings[name] = schema.default
      continue
    }
    const result = readValue(text, schema)
    if ('problem' in result) problems.push(`${name}: ${result.problem}`)
    else settings[name] = Array.isArray(result.value) ? readList(name, result.value, problems) : result.value
  }
  // Each value has passed the schema of its name.
  return settings as Partial<Settings>
}

const listItems: Readonly<Record<string, ListItem>> = {
  ALLOWED_HOSTS: allowedHost,
  ALLOWED_ORIGINS: allowedOrigin,
  PASS_THROUGH: passedPath,
  TRUSTED_PROXIES: trustedProxy,
}

function readList(name: string, items: readonly string[], problems: string[]): string[] {
  const kind = listItems[name]
  if (kind === undefined) return [...items]
  return items.flatMap((item) => {
    const normal = kind.normalise(item)
    if (normal === undefined) problems.push(`${name}: ${JSON.stringify(item)} must be ${kind.expected}`)
    return normal ?? []
  })
}

function repeatedUrls(workers: readonly WorkerSeed[]): string[] {
  const urls = workers.map(({ url }) => url)
  const repeated = new Set(urls.filter((url, index) => urls.indexOf(url) !== index))
  return [...repeated].map((url) => `WORKERS, WORKERS_FILE: ${url} is named more than once`)
}

/** Mistakes that show only when two settings are read together. A variable that is wrong by itself says so elsewhere. */
function contradictions(settings: Partial<Settings>): string[] {
  const found: string[] = []
  const { HOST, OPEN_API, LEASE_MS, LEASE_RENEW_MS, PORT, EDITOR_PORT, PASS_THROUGH = [] } = settings
  if (HOST !== undefined && OPEN_API === false && !isLoopbackHost(HOST)) {
    found.push(
      `HOST: ${JSON.stringify(HOST)} lets everybody who can reach this machine use the gateway without a key; ` +
        'set OPEN_API=true if that is meant, or HOST=127.0.0.1',
    )
  }
  if (PORT !== undefined && PORT !== 0 && PORT === EDITOR_PORT) {
    found.push(`EDITOR_PORT: must be another port than PORT (${PORT}), or 0`)
  }
  if (PASS_THROUGH.length > 1 && PASS_THROUGH.some((item) => item === 'all' || item === 'off')) {
    found.push('PASS_THROUGH: all and off stand alone')
  }
  found.push(...storeProblems(settings))
  if (LEASE_MS !== undefined && LEASE_RENEW_MS !== undefined && LEASE_RENEW_MS >= LEASE_MS) {
    found.push(`LEASE_RENEW_MS: must be less than LEASE_MS (${LEASE_MS}), not ${LEASE_RENEW_MS}`)
  }
  if (settings.WORKER_AUTH_PASSWORD !== undefined && settings.WORKER_AUTH_USERNAME === undefined) {
    found.push('WORKER_AUTH_USERNAME: is missing, although WORKER_AUTH_PASSWORD is set')
  }
  return found
}
