import { type Static, Type } from 'typebox'
import { parseWorkerUrl, WorkerEntrySchema } from '../../config/worker-seed.ts'
import { certificatesIn, checkHeaders } from '../../config/workers-file.ts'
import { HttpError } from '../../errors.ts'
import type { NewWorker, WorkerPatch } from '../../workers/registry.ts'
import type { WorkerConfig } from '../../workers/worker.ts'

/** A value that cannot be used; the answer is 422 with `{detail}`. */
export class UnusableValueError extends HttpError {
  constructor(sentence: string) {
    super(422, 'unusable_value', sentence)
  }
}

// What can be said of a worker is the same in the workers file; only auth is flat here.
const entry = WorkerEntrySchema.properties

const common = {
  name: entry.name,
  // Without defaults: the app's validator fills them in, and a patch would set what it does not mention.
  weight: Type.Optional(
    Type.Number({ exclusiveMinimum: 0, maximum: 1_000, description: 'Breaks ties; the higher the sooner.' }),
  ),
  slots: Type.Optional(Type.Integer({ minimum: 1, maximum: 64, description: 'Prompts it runs at the same time.' })),
  tags: entry.tags,
  headers: entry.headers,
  metadata: entry.metadata,
  ca: Type.Optional(Type.String({ description: 'PEM text of a private CA for https; empty removes it.' })),
  auth_username: Type.Optional(
    Type.String({ maxLength: 1_000, description: 'For Basic auth; empty removes user and password.' }),
  ),
  auth_password: Type.Optional(Type.String({ maxLength: 1_000, description: 'Kept sealed and never returned.' })),
  enabled: Type.Optional(Type.Boolean()),
}

export const NewWorkerBody = Type.Object({
  url: Type.String({ maxLength: 2_000, description: 'Address with http:// or https://; a path is kept.' }),
  ...common,
  skip_health_check: Type.Optional(
    Type.Boolean({ default: false, description: 'Adds it although it may not be reachable now.' }),
  ),
})

export const WorkerPatchBody = Type.Object({
  ...common,
  draining: Type.Optional(Type.Boolean()),
  url: Type.Optional(Type.String({ description: 'Cannot be changed; here so that a whole worker can be sent back.' })),
})

/** Members whose null means the same as empty: take it away. */
const clearable = new Set(['ca', 'auth_username', 'auth_password'])
const MAX_METADATA_DEPTH = 20

/** Forms send null for what was left empty: it is as if it had not been sent, or takes a value away. */
export function withoutNulls(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body
  const kept: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(body)) {
    if (value !== null) kept[key] = value
    else if (clearable.has(key)) kept[key] = ''
  }
  return kept
}

/** Reads what is said of a new worker. Throws UnusableValueError. */
export function newWorkerOf(body: Static<typeof NewWorkerBody>): NewWorker {
  const address = parseWorkerUrl(body.url.trim())
  if ('problem' in address) throw new UnusableValueError(`The url ${address.problem}`)
  const auth = authOf(body, address.auth)
  return { url: address.url, ...plainOf(body, auth !== undefined), ...(auth === undefined ? {} : { auth }) }
}

/** Reads what is to be changed of a worker. Throws UnusableValueError. */
export function patchOf(body: Static<typeof WorkerPatchBody>, before: WorkerConfig): WorkerPatch {
  if (body.url !== undefined && body.url.trim().replace(/\/+$/, '') !== before.url) {
    throw new UnusableValueError('The url of a worker cannot be changed; remove it and add another')
  }
  const auth = authOf(body, before.auth)
  const patch: WorkerPatch = plainOf(body, auth !== undefined)
  if (body.ca === '') patch.ca = undefined
  if (body.auth_username !== undefined || body.auth_password !== undefined) patch.auth = auth
  if (body.enabled !== undefined) patch.enabled = body.enabled
  if (body.draining !== undefined) patch.draining = body.draining
  return patch
}

type Said = Static<typeof WorkerPatchBody>

type Plain = Partial<Pick<WorkerConfig, 'name' | 'weight' | 'slots' | 'tags' | 'headers' | 'metadata'>> & {
  ca?: string
}

/** The members that mean the same for a new worker and a known one. */
function plainOf(body: Said, hasAuth: boolean): Plain {
  const { name, weight, slots, tags, headers, metadata } = body
  if (headers !== undefined) {
    const mistakes: string[] = []
    checkHeaders(headers, hasAuth, mistakes)
    if (mistakes[0] !== undefined) throw new UnusableValueError(mistakes[0])
  }
  const ca = body.ca === undefined || body.ca === '' ? undefined : certificatesIn(body.ca)
  if (body.ca && ca === undefined) throw new UnusableValueError('ca does not hold PEM certificates that can be read')
  if (metadata !== undefined && isDeeper(metadata, MAX_METADATA_DEPTH)) {
    throw new UnusableValueError(`metadata is nested more than ${MAX_METADATA_DEPTH} deep`)
  }
  return {
    ...(name === undefined ? {} : { name }),
    ...(weight === undefined ? {} : { weight }),
    ...(slots === undefined ? {} : { slots }),
    ...(tags === undefined ? {} : { tags }),
    ...(headers === undefined ? {} : { headers }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(ca === undefined ? {} : { ca }),
  }
}

function authOf(
  body: Pick<Said, 'auth_username' | 'auth_password'>,
  before: WorkerConfig['auth'],
): WorkerConfig['auth'] {
  const username = body.auth_username ?? before?.username
  if (username === undefined || username === '') {
    if (body.auth_password) throw new UnusableValueError('auth_password is given without auth_username')
    return undefined
  }
  if (username.includes(':')) throw new UnusableValueError('auth_username has a colon, which Basic auth cannot carry')
  return { username, password: body.auth_password ?? before?.password ?? '' }
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1))
}
