import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { dirname, extname, resolve } from 'node:path'
import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { LineCounter, parseDocument } from 'yaml'
import { parseWorkerUrl, plainSeed, type WorkerEntry, WorkerEntrySchema, type WorkerSeed } from './worker-seed.ts'

/** Headers that belong to the connection or to the gateway; a worker entry cannot set them. */
const reservedHeaders = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'origin',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/**
 * Reads `WORKERS_FILE`: a list of entries, or an object with that list under `workers`; an entry may be just a URL.
 * Mistakes go to `problems` with their entry number (from 1) and without the values of passwords and headers.
 */
export function readWorkersFile(path: string, problems: string[]): WorkerSeed[] {
  const content = readText(path)
  if ('problem' in content) {
    problems.push(`WORKERS_FILE: ${path} ${content.problem}`)
    return []
  }
  const parsed = parseText(content.text, extname(path).toLowerCase())
  if ('problem' in parsed) {
    problems.push(`WORKERS_FILE: ${path} ${parsed.problem}`)
    return []
  }
  const entries = entryList(parsed.value)
  if (entries === undefined) {
    problems.push(`WORKERS_FILE: ${path} must hold a list of workers, or "workers:" with a list`)
    return []
  }
  return entries.flatMap((entry, index) => {
    const mistakes: string[] = []
    const seed = readEntry(entry, dirname(path), mistakes)
    problems.push(...mistakes.map((mistake) => `WORKERS_FILE: entry ${index + 1}: ${mistake}`))
    return seed === undefined ? [] : [seed]
  })
}

type Read<T> = T | { problem: string }

/** The text of a file without a byte order mark, or why it cannot be read. */
function readText(path: string): Read<{ text: string }> {
  try {
    return { text: readFileSync(path, 'utf8').replace(/^\uFEFF/, '') }
  } catch (error) {
    return { problem: `cannot be read (${errorCode(error)})` }
  }
}

const errorCode = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'

// The parsers' own messages quote the text around a mistake, and that may be a password: only the place is told.
function parseText(text: string, extension: string): Read<{ value: unknown }> {
  if (extension === '.json') {
    try {
      return { value: JSON.parse(text) }
    } catch {
      return { problem: 'is not valid JSON' }
    }
  }
  const lines = new LineCounter()
  const document = parseDocument(text, { prettyErrors: false, lineCounter: lines })
  const error = document.errors[0]
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0])
    return { problem: `is not valid YAML (${error.code} at line ${line}, column ${col})` }
  }
  try {
    return { value: document.toJS() }
  } catch {
    return { problem: 'is not valid YAML (an alias cannot be resolved)' }
  }
}

function entryList(value: unknown): unknown[] | undefined {
  if (Array.isArray(value)) return value
  if (!isRecord(value)) return undefined
  const { workers, ...others } = value
  return Array.isArray(workers) && Object.keys(others).length === 0 ? workers : undefined
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function readEntry(entry: unknown, folder: string, mistakes: string[]): WorkerSeed | undefined {
  const fields = typeof entry === 'string' ? { url: entry } : entry
  if (!isRecord(fields)) {
    mistakes.push('must be a URL or an object with "url"')
    return undefined
  }
  checkShape(fields, mistakes)
  const address = typeof fields.url === 'string' && fields.url !== '' ? parseWorkerUrl(fields.url.trim()) : undefined
  if (address !== undefined && 'problem' in address) mistakes.push(`url ${address.problem}`)
  if (address !== undefined && 'auth' in address && fields.auth !== undefined) {
    mistakes.push('auth is given twice: in "url" and in "auth"')
  }
  if (isRecord(fields.headers)) checkHeaders(fields.headers, fields.auth !== undefined, mistakes)
  const ca = typeof fields.ca === 'string' && fields.ca !== '' ? readCa(fields.ca, folder, mistakes) : undefined
  if (mistakes.length > 0 || address === undefined || 'problem' in address) return undefined

  // checkShape found nothing, so the fields have the schema's type.
  const { url: _, ca: _caText, ...rest } = fields as WorkerEntry
  return { ...plainSeed(address), ...rest, ...(ca === undefined ? {} : { ca }) }
}

function checkShape(fields: Record<string, unknown>, mistakes: string[]): void {
  const known: Record<string, TSchema> = WorkerEntrySchema.properties
  for (const name of Object.keys(fields)) {
    if (!Object.hasOwn(known, name)) {
      mistakes.push(`${quote(name)} is not a known field; known are ${Object.keys(known).join(', ')}`)
    }
  }
  if (fields.url === undefined) mistakes.push('url is missing')
  // Field by field: TypeBox stops after 8 errors of one call.
  for (const [name, schema] of Object.entries(known)) {
    if (fields[name] === undefined) continue
    for (const error of Value.Errors(schema, fields[name])) {
      // A refused extra property is reported twice: by its parent ("additionalProperties") and by itself.
      if (error.keyword === 'boolean') continue
      mistakes.push(`${name}${error.instancePath.replaceAll('/', '.')} ${complaint(error)}`)
    }
  }
}

/** A sentence's end for one schema error; never with the value. */
function complaint(error: ReturnType<typeof Value.Errors>[number]): string {
  switch (error.keyword) {
    case 'type':
      return `must be ${typeWords[String(error.params.type)] ?? String(error.params.type)}`
    case 'required':
      return `needs ${error.params.requiredProperties.map(quote).join(' and ')}`
    case 'additionalProperties':
      return `has unknown fields: ${error.params.additionalProperties.map(quote).join(', ')}`
    case 'minimum':
      return `must be at least ${error.params.limit}`
    case 'exclusiveMinimum':
      return `must be more than ${error.params.limit}`
    case 'maximum':
      return `must be at most ${error.params.limit}`
    case 'minLength':
      return 'must not be empty'
    case 'maxLength':
      return `must have at most ${error.params.limit} characters`
    case 'pattern':
      return 'must not contain a colon'
    default:
      return error.message
  }
}

const typeWords: Record<string, string> = {
  string: 'text (put numbers and words like "yes" in quotes)',
  integer: 'a whole number',
  number: 'a number',
  array: 'a list',
  object: 'an object with fields',
}

const quote = (text: string): string => JSON.stringify(text)

/** Adds what is wrong with the headers of a worker to `mistakes`, without their values. */
export function checkHeaders(headers: Record<string, unknown>, hasAuth: boolean, mistakes: string[]): void {
  for (const [name, value] of Object.entries(headers)) {
    const label = `headers.${name}`
    if (!isAccepted(() => validateHeaderName(name))) mistakes.push(`headers: ${quote(name)} is not a header name`)
    else if (reservedHeaders.has(name.toLowerCase())) mistakes.push(`${label} cannot be set`)
    else if (hasAuth && name.toLowerCase() === 'authorization') mistakes.push(`${label} is given beside "auth"`)
    else if (typeof value === 'string' && !isAccepted(() => validateHeaderValue(name, value))) {
      mistakes.push(`${label} has characters that a header cannot carry`)
    }
  }
}

function isAccepted(check: () => void): boolean {
  try {
    check()
    return true
  } catch {
    return false
  }
}

function readCa(ca: string, folder: string, mistakes: string[]): string | undefined {
  const isText = ca.includes('-----BEGIN')
  const path = resolve(folder, ca)
  const content = isText ? { text: ca } : readText(path)
  if ('problem' in content) {
    mistakes.push(`ca: ${path} ${content.problem}`)
    return undefined
  }
  const certificates = certificatesIn(content.text)
  if (certificates === undefined) {
    mistakes.push(`ca${isText ? '' : `: ${path}`} does not hold PEM certificates that can be read`)
  }
  return certificates
}

/** The PEM certificates in a text and nothing else of it; undefined when there is none, or one cannot be read. */
export function certificatesIn(text: string): string | undefined {
  const certificates = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
  const isReadable = certificates.every((pem) => isAccepted(() => new X509Certificate(pem)))
  return certificates.length > 0 && isReadable ? certificates.join('\n') : undefined
}
