import { hkdfSync, randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { ConfigError } from './config-error.ts'

const fileName = 'secret.key'
const keyText = /^[0-9a-f]{64}$/

/**
 * The 32-byte key that seals secrets in the store: derived from `configured` (`SECRET_KEY`), else from
 * `dataDir/secret.key`, which is made with mode 0600 when it is missing. Gateways that start at once on one folder
 * get the same key.
 *
 * @throws ConfigError when the folder cannot be written, or the file is damaged (a new key could open nothing).
 */
export function loadSecretKey({ configured, dataDir }: { configured?: string | undefined; dataDir: string }): Buffer {
  if (configured !== undefined) return derive(configured)
  const path = join(dataDir, fileName)
  try {
    const text = readKey(path) ?? makeKey(path, dataDir)
    if (keyText.test(text)) return derive(text)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
    throw new ConfigError([`DATA_DIR: ${path} cannot be read or made (${code})`])
  }
  throw new ConfigError([
    `SECRET_KEY: ${path} is damaged; restore it from a backup, or remove it and enter the workers' passwords again`,
  ])
}

// Every key in use is derived, so that a key for another purpose can come from the same text.
const derive = (text: string): Buffer => Buffer.from(hkdfSync('sha256', text, '', 'comfyfleet sealed secrets', 32))

function readKey(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** Writes a new key beside its place and links it there: never half a file, never over another gateway's key. */
function makeKey(path: string, dataDir: string): string {
  mkdirSync(dataDir, { recursive: true })
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  const text = randomBytes(32).toString('hex')
  writeDurably(draft, text)
  try {
    linkSync(draft, path)
    return text
  } catch (error) {
    if (isCode(error, 'EEXIST')) return readFileSync(path, 'utf8').trim()
    // Some file systems have no hard links; there an exclusive write has to do.
    if (!isCode(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS')) throw error
    writeDurably(path, text)
    return text
  } finally {
    rmSync(draft, { force: true })
  }
}

function writeDurably(path: string, text: string): void {
  const file = openSync(path, 'wx', 0o600)
  try {
    writeSync(file, text)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

const isCode = (error: unknown, ...codes: string[]): boolean =>
  error instanceof Error && 'code' in error && codes.includes(String(error.code))
