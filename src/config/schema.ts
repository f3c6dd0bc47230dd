import { type Static, Type } from 'typebox'

/** Levels the logger knows, quietest last. */
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

const address = {
  HOST: Type.String({
    default: '127.0.0.1',
    description: 'Address to listen on. Another than a loopback address also needs `OPEN_API=true`.',
  }),
  PORT: Type.Integer({
    default: 8000,
    minimum: 0,
    maximum: 65_535,
    description: 'Port to listen on; 0 takes a free one.',
  }),
  EDITOR_PORT: Type.Integer({
    default: 8001,
    minimum: 0,
    maximum: 65_535,
    description:
      "Port of ComfyUI's editor, on the same `HOST`; 0 turns it off. When the port is taken the gateway runs without it.",
  }),
  OPEN_API: Type.Boolean({
    default: false,
    description: 'Confirms that everybody who reaches a `HOST` beyond this machine may use the gateway without a key.',
  }),
  ALLOWED_HOSTS: Type.Array(Type.String(), {
    default: [],
    description:
      'Names, with or without a port, that clients may use to address the gateway (checked against `Host`), in addition to loopback names and IP addresses.',
    examples: ['fleet.example.org, gpu-box.local:8000'],
  }),
  ALLOWED_ORIGINS: Type.Array(Type.String(), {
    default: [],
    description: 'Origins of other web pages that may call the gateway from a browser.',
    examples: ['https://app.example.org'],
  }),
  TRUSTED_PROXIES: Type.Array(Type.String(), {
    default: [],
    description: 'Addresses or CIDR ranges of reverse proxies whose `X-Forwarded-*` headers are believed.',
    examples: ['127.0.0.1, 10.0.0.0/8'],
  }),
}

const storage = {
  DATA_DIR: Type.String({
    default: './data',
    description:
      'Folder for the database, the secret key and files; made when it is missing. Relative to the working folder.',
  }),
  STORE: Type.Optional(
    Type.Enum(['sqlite', 'memory', 'mysql', 'redis'], {
      description:
        'Where prompts are kept. Without it `mysql` when `MYSQL_DATABASE` is set, else `redis` when `REDIS_URL` is set, else `sqlite`. `memory` forgets everything on exit.',
      examples: ['sqlite'],
    }),
  ),
  SQLITE_SYNC: Type.Enum(['full', 'normal'], {
    default: 'full',
    description:
      '`full` survives a power cut; `normal` is faster and survives a crash of the gateway, not one of the machine.',
  }),
  OUTPUT_CACHE_BYTES: Type.Integer({
    default: 10_737_418_240,
    minimum: 0,
    maximum: 1_125_899_906_842_624,
    description:
      'Bytes in `DATA_DIR` for copies of finished outputs, so that they outlive their worker; what was not used for the longest time goes first. 0 copies nothing.',
  }),
  REDIS_URL: Type.Optional(
    Type.String({
      secret: true,
      description:
        'Redis 6.2 or newer: `redis://user:password@host:port/db`, or `rediss://` for TLS. It needs `maxmemory-policy noeviction`, and should have `appendonly yes` and `appendfsync always`.',
      examples: ['redis://127.0.0.1:6379/0'],
    }),
  ),
  REDIS_PREFIX: Type.String({
    default: 'comfyfleet',
    description:
      "What this fleet's keys in Redis start with: `{comfyfleet}:…`, the braces keep them together in a cluster.",
  }),
  MYSQL_HOST: Type.String({ default: '127.0.0.1', description: 'Name or address of the MySQL or MariaDB server.' }),
  MYSQL_PORT: Type.Integer({ default: 3306, minimum: 1, maximum: 65_535, description: 'Port of that server.' }),
  MYSQL_DATABASE: Type.Optional(
    Type.String({
      description: 'Database for the prompts; setting it selects MySQL, unless `STORE` names another store.',
      examples: ['comfyfleet'],
    }),
  ),
  MYSQL_USER: Type.Optional(
    Type.String({ description: 'User of that database; needed with `MYSQL_DATABASE`.', examples: ['comfyfleet'] }),
  ),
  MYSQL_PASSWORD: Type.Optional(Type.String({ secret: true, description: 'Password of that user.' })),
  MYSQL_TLS: Type.Boolean({
    default: false,
    description:
      "Encrypts the connection to the database and checks its certificate; `NODE_EXTRA_CA_CERTS` names the file of one's own authority.",
  }),
  MYSQL_CONNECTIONS: Type.Integer({
    default: 10,
    minimum: 1,
    maximum: 200,
    description: 'Connections that one gateway keeps to the database at most.',
  }),
  STORE_TIMEOUT_MS: Type.Integer({
    default: 2_000,
    minimum: 100,
    maximum: 60_000,
    description: 'Milliseconds one call to the store may take.',
  }),
  SECRET_KEY: Type.Optional(
    Type.String({
      minLength: 32,
      secret: true,
      description: 'Text that seals stored passwords. Without it a key is made once in `DATA_DIR/secret.key`.',
    }),
  ),
  LEASE_MS: Type.Integer({
    default: 15_000,
    minimum: 1_000,
    maximum: 600_000,
    description: "Milliseconds that a leading gateway's claim to dispatch lasts without renewal.",
  }),
  LEASE_RENEW_MS: Type.Integer({
    default: 5_000,
    minimum: 100,
    maximum: 300_000,
    description: 'Milliseconds between renewals of that claim; less than `LEASE_MS`.',
  }),
}

const workers = {
  WORKERS: Type.Array(Type.String(), {
    default: [],
    secret: true,
    description:
      'URLs of the ComfyUI servers, separated by commas or spaces; a path and `user:password@` are allowed. With neither this nor `WORKERS_FILE`, `http://127.0.0.1:8188` is tried.',
    examples: ['http://gpu1:8188, http://gpu2:8188'],
  }),
  WORKERS_FILE: Type.Optional(
    Type.String({
      description: 'YAML or JSON file with workers in more detail (see below).',
      examples: ['workers.yaml'],
    }),
  ),
  WORKER_AUTH_USERNAME: Type.Optional(
    Type.String({ pattern: '^[^:]*$', description: 'Basic auth user for workers that have none of their own.' }),
  ),
  WORKER_AUTH_PASSWORD: Type.Optional(
    Type.String({ secret: true, description: 'Basic auth password for workers that have none of their own.' }),
  ),
  WORKER_REQUEST_TIMEOUT: Type.Number({
    default: 30,
    minimum: 0.1,
    maximum: 3_600,
    description: 'Seconds a worker may take to answer a call that has no clock of its own.',
  }),
  CONNECT_TIMEOUT_MS: Type.Integer({
    default: 2_000,
    minimum: 50,
    maximum: 60_000,
    description: 'Milliseconds to connect to a worker.',
  }),
  PROMPT_TIMEOUT_MS: Type.Integer({
    default: 10_000,
    minimum: 100,
    maximum: 600_000,
    description: 'Milliseconds a worker may take to answer `POST /prompt`; then it is asked whether it has the prompt.',
  }),
  VERDICT_TIMEOUT_MS: Type.Integer({
    default: 1_000,
    minimum: 0,
    maximum: 60_000,
    description: 'Milliseconds a client waits for the verdict of an idle worker before it gets its 200; 0 never waits.',
  }),
}

const health = {
  HEALTH_INTERVAL_MS: Type.Integer({
    default: 2_000,
    minimum: 100,
    maximum: 3_600_000,
    description: 'Milliseconds between checks of one worker.',
  }),
  HEALTH_FALL: Type.Integer({
    default: 3,
    minimum: 1,
    maximum: 100,
    description: 'Failed checks in a row that make a worker unhealthy.',
  }),
  HEALTH_RISE: Type.Integer({
    default: 2,
    minimum: 1,
    maximum: 100,
    description: 'Passed checks in a row that make it healthy again.',
  }),
  QUEUE_CACHE_TTL_SECONDS: Type.Number({
    default: 5,
    minimum: 0.1,
    maximum: 3_600,
    description: "Seconds between comparisons of our records with each worker's own queue.",
  }),
  PING_INTERVAL_MS: Type.Integer({
    default: 20_000,
    minimum: 100,
    maximum: 3_600_000,
    description: 'Milliseconds between pings on WebSockets; less than the idle limit of a proxy in between.',
  }),
  SUSPECT_AFTER_MS: Type.Integer({
    default: 15_000,
    minimum: 100,
    maximum: 3_600_000,
    description: 'Milliseconds of silence after which a worker gets no new work and is asked what it runs.',
  }),
  REFUSED_GIVE_UP_MS: Type.Integer({
    default: 5_000,
    minimum: 0,
    maximum: 3_600_000,
    description: 'Milliseconds of refused or reset connections after which a run is given up.',
  }),
  GIVE_UP_SECONDS: Type.Number({
    default: 120,
    minimum: 1,
    maximum: 86_400,
    description: 'Seconds of silence after which a run is given up.',
  }),
  STALL_SECONDS: Type.Number({
    default: 0,
    minimum: 0,
    maximum: 604_800,
    description: "Seconds without progress after which a worker's run is given up; 0 only raises an alert.",
  }),
}

const queue = {
  MAX_QUEUE: Type.Integer({
    default: 10_000,
    minimum: 1,
    maximum: 1_000_000,
    description: 'Prompts that may wait; more get 503.',
  }),
  PREFETCH: Type.Integer({
    default: 1,
    minimum: 0,
    maximum: 1,
    description: 'Prompts sent ahead to a worker that is busy.',
  }),
  POLICY: Type.Enum(['least-loaded'], {
    default: 'least-loaded',
    description: 'How a worker is chosen: `least-loaded` takes the one with the shortest queue, weight breaks ties.',
  }),
  MAX_ATTEMPTS: Type.Integer({
    default: 3,
    minimum: 1,
    maximum: 100,
    description: 'How often a prompt is sent to a worker before it fails.',
  }),
  MAX_WORKER_DEATHS: Type.Integer({
    default: 2,
    minimum: 1,
    maximum: 100,
    description: 'Workers that may die while they run a prompt before it fails.',
  }),
  RERUN_PAID: Type.Boolean({
    default: false,
    description: 'Runs a prompt with paid partner nodes again although it had started.',
  }),
  IDEMPOTENCY_SECONDS: Type.Number({
    default: 600,
    minimum: 0,
    maximum: 604_800,
    description: 'Seconds in which the same `prompt_id` with the same body is taken as one submission.',
  }),
}

const history = {
  HISTORY_LIST: Type.Integer({
    default: 200,
    minimum: 1,
    maximum: 100_000,
    description: 'Entries that `GET /history` without `max_items` lists, newest kept.',
  }),
  HISTORY_MAX_ENTRIES: Type.Integer({
    default: 10_000,
    minimum: 0,
    maximum: 10_000_000,
    description: 'Finished prompts that are kept; 0 is no limit.',
  }),
  HISTORY_MAX_AGE_DAYS: Type.Number({
    default: 0,
    minimum: 0,
    maximum: 36_500,
    description: 'Days that a finished prompt is kept; 0 is no limit.',
  }),
}

const clients = {
  MAX_BODY_BYTES: Type.Integer({
    default: 104_857_600,
    minimum: 1_024,
    maximum: 1_073_741_824,
    description: 'Largest request body in bytes; more gets 413.',
  }),
  PASS_THROUGH: Type.Array(Type.String(), {
    default: ['all'],
    description:
      'What happens to routes that neither the gateway nor ComfyUI has (those of custom nodes): `all` go to a worker, `off` none, or only those under the paths listed. Installing, updating and restarting through ComfyUI-Manager is always closed.',
    examples: ['/vhs, /easyuse'],
  }),
  HOLD_BYTES: Type.Integer({
    default: 67_108_864,
    minimum: 65_536,
    maximum: 17_179_869_184,
    description: 'Memory in bytes for messages that wait for an earlier prompt of the same client.',
  }),
  WS_BUFFER_BYTES: Type.Integer({
    default: 8_388_608,
    minimum: 65_536,
    maximum: 1_073_741_824,
    description: 'Bytes that one slow reader may fall behind; previews are dropped first, then its socket is closed.',
  }),
  WS_DELIVERY: Type.Enum(['ordered', 'live'], {
    default: 'ordered',
    description: '`ordered` shows a client one prompt at a time; `live` sends everything as it comes.',
  }),
  STATUS_COUNT: Type.Enum(['client', 'fleet'], {
    default: 'client',
    description: 'Whose prompts the remaining count in `status` messages and `GET /prompt` covers.',
  }),
  REPLAY_SECONDS: Type.Number({
    default: 300,
    minimum: 0,
    maximum: 86_400,
    description: 'Seconds in which a client that reconnects still gets the last messages that it missed.',
  }),
}

const operation = {
  LOG_LEVEL: Type.Enum([...logLevels], { default: 'info', description: 'Least severe level that is logged.' }),
  SHUTDOWN_SECONDS: Type.Number({
    default: 30,
    minimum: 0,
    maximum: 3_600,
    description: 'Seconds that stopping may take before the process ends anyway.',
  }),
}

/** Every setting, keyed by its environment variable. Custom option `secret`: the value is never printed. */
export const SettingsSchema = Type.Object({
  ...address,
  ...storage,
  ...workers,
  ...health,
  ...queue,
  ...history,
  ...clients,
  ...operation,
})

export type Settings = Static<typeof SettingsSchema>

/** What loader and renderer read of one variable's schema: the JSON Schema words this file uses. */
export interface VariableSchema {
  readonly type?: 'string' | 'integer' | 'number' | 'boolean' | 'array'
  readonly enum?: readonly string[]
  readonly default?: string | number | boolean | readonly string[]
  readonly description: string
  readonly examples?: readonly string[]
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly pattern?: string
  readonly secret?: boolean
}

/** One heading of the settings page with its variables, in the order in which they are shown. */
export interface SettingsSection {
  readonly title: string
  readonly variables: Readonly<Record<string, VariableSchema>>
}

// TypeBox types its schemas by what they accept, not by their keywords; every variable above is built from the
// words VariableSchema lists, which the test of this file holds.
const section = (title: string, variables: object): SettingsSection => ({
  title,
  variables: variables as Record<string, VariableSchema>,
})

export const settingsSections: readonly SettingsSection[] = [
  section('Address and access', address),
  section('Storage', storage),
  section('Workers', workers),
  section('Health', health),
  section('Queue', queue),
  section('History', history),
  section('Requests and sockets', clients),
  section('Operation', operation),
]

/** All variables of all sections, by name. */
export const variables: ReadonlyMap<string, VariableSchema> = new Map(
  settingsSections.flatMap((part) => Object.entries(part.variables)),
)
