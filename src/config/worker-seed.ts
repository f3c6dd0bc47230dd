import { type Static, Type } from 'typebox'

/** The ComfyUI that is tried and offered when no worker is configured. */
export const DEFAULT_WORKER_URL = 'http://127.0.0.1:8188'

/** Basic auth of one worker. Secret: never logged, never returned. */
export interface WorkerAuth {
  readonly username: string
  readonly password: string
}

/** A worker as configuration names it. Seeds the store once per `url`; what the store has later wins. */
export interface WorkerSeed {
  /** Normalised: no credentials, no query, no trailing slash; a path is kept. */
  readonly url: string
  readonly name?: string
  readonly weight: number
  /** Prompts the worker runs at the same time. */
  readonly slots: number
  readonly tags: readonly string[]
  /** Sent with every call and on the socket. Values may be secrets. */
  readonly headers: Readonly<Record<string, string>>
  /** PEM text of one or more certificates that are trusted for this worker only. */
  readonly ca?: string
  readonly auth?: WorkerAuth
  readonly metadata: Readonly<Record<string, unknown>>
}

/** One entry of `WORKERS_FILE`. What a schema cannot say (URL, header and certificate syntax) is checked beside it. */
export const WorkerEntrySchema = Type.Object(
  {
    url: Type.String({ minLength: 1, description: 'Address with http:// or https://; a path is kept.' }),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 100, description: 'Shown instead of the address.' })),
    weight: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1_000,
        default: 1,
        description: 'Breaks ties; the higher the sooner.',
      }),
    ),
    slots: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 64, default: 1, description: 'Prompts it runs at the same time.' }),
    ),
    tags: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 100, description: 'Free words, a list.' }),
    ),
    headers: Type.Optional(
      Type.Record(Type.String(), Type.String(), { description: 'Headers sent to this worker only.' }),
    ),
    ca: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Private CA for https: PEM text, or the path of a PEM file relative to the workers file.',
      }),
    ),
    auth: Type.Optional(
      Type.Object(
        { username: Type.String({ minLength: 1, pattern: '^[^:]*$' }), password: Type.String() },
        {
          additionalProperties: false,
          description: '`username` and `password` for Basic auth; wins over `WORKER_AUTH_USERNAME`.',
        },
      ),
    ),
    metadata: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), { description: 'Anything you want to keep with the worker.' }),
    ),
  },
  { additionalProperties: false },
)

export type WorkerEntry = Static<typeof WorkerEntrySchema>

/** What `parseWorkerUrl` found; `problem` says what is wrong without repeating the text, which may hold a password. */
export type WorkerUrl = { url: string; auth?: WorkerAuth } | { problem: string }

/** Reads a worker's address and takes `user:password@` out of it. */
export function parseWorkerUrl(text: string): WorkerUrl {
  if (!/^https?:\/\//i.test(text)) return { problem: 'must start with http:// or https://' }
  if (!URL.canParse(text)) return { problem: 'is not a valid URL' }
  const parsed = new URL(text)
  if (parsed.search !== '' || parsed.hash !== '') return { problem: 'must not have a query (?) or fragment (#)' }
  const url = parsed.origin + parsed.pathname.replace(/\/+$/, '')
  if (parsed.username === '' && parsed.password === '') return { url }
  const username = decode(parsed.username)
  const password = decode(parsed.password)
  if (username === undefined || password === undefined) {
    return { problem: 'has a user or password whose % escapes are broken' }
  }
  if (username === '') return { problem: 'has a password without a user' }
  if (username.includes(':')) return { problem: 'has a user with a colon, which Basic auth cannot carry' }
  return { url, auth: { username, password } }
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** A seed with nothing but an address. */
export function plainSeed(found: { url: string; auth?: WorkerAuth }): WorkerSeed {
  return { ...found, weight: 1, slots: 1, tags: [], headers: {}, metadata: {} }
}
