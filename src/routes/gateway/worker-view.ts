import { type Static, Type } from 'typebox'
import type { Identity } from '../../auth/identity.ts'
import { sees } from '../../queue/prompt.ts'
import type { PromptQueue } from '../../queue/queue.ts'
import type { Worker } from '../../workers/worker.ts'

const Nullable = {
  String: Type.Union([Type.String(), Type.Null()]),
  Number: Type.Union([Type.Number(), Type.Null()]),
}

/** A worker as the API shows it. Secrets are left out: only that there is a password, and the names of headers. */
export const WorkerView = Type.Object({
  worker_id: Type.String(),
  url: Type.String(),
  name: Type.String(),
  weight: Type.Number({ description: 'Breaks ties; the higher the sooner.' }),
  slots: Type.Integer({ description: 'Prompts it runs at the same time.' }),
  tags: Type.Array(Type.String()),
  enabled: Type.Boolean(),
  draining: Type.Boolean({ description: 'Finishes what it has, gets nothing new.' }),
  healthy: Type.Boolean(),
  state: Type.Enum(['connecting', 'healthy', 'suspect', 'down']),
  reason: { ...Nullable.String, description: 'Why it is not healthy.' },
  since: { ...Nullable.Number, description: 'When it stopped to be healthy, milliseconds since 1970.' },
  available: Type.Boolean({ description: 'Takes a prompt now.' }),
  version: { ...Nullable.String, description: 'Of its ComfyUI.' },
  queue_running: Type.Integer(),
  queue_pending: Type.Integer({ description: 'In its own queue; what waits in the gateway is not counted.' }),
  running: Type.Array(Type.String(), { description: 'Ids of the prompts it runs, as far as the caller may see them.' }),
  latency_ms: { ...Nullable.Number, description: 'What its last check took.' },
  vram_total: { ...Nullable.Number, description: 'Bytes of its largest device.' },
  auth_username: Nullable.String,
  auth_has_password: Type.Boolean(),
  header_names: Type.Array(Type.String()),
  has_ca: Type.Boolean(),
  metadata: Type.Record(Type.String(), Type.Unknown()),
})

export type WorkerView = Static<typeof WorkerView>

export interface ViewContext {
  queue: Pick<PromptQueue, 'get'>
  identity: Pick<Identity, 'owner'>
  /** The clock of worker states, monotonic milliseconds. */
  now: () => number
}

/** Reads the state that is there; asks nobody. */
export function viewOf(worker: Worker, { queue, identity, now }: ViewContext): WorkerView {
  const { config, state } = worker
  const inFlight = [...worker.inFlight.values()]
  const running = inFlight.filter(({ phase }) => phase === 'running')
  return {
    worker_id: config.id,
    url: config.url,
    name: config.name,
    weight: config.weight,
    slots: config.slots,
    tags: [...config.tags],
    enabled: config.enabled,
    draining: config.draining,
    healthy: state.kind === 'healthy',
    state: state.kind,
    reason: 'reason' in state ? state.reason : null,
    since: 'since' in state ? Math.round(Date.now() - (now() - state.since)) : null,
    available: worker.isAvailable,
    version: worker.version ?? null,
    queue_running: running.length + worker.foreignRunning,
    queue_pending: inFlight.length - running.length + worker.foreignPending,
    running: running.flatMap(({ promptId }) => {
      const record = queue.get(promptId)?.record
      return record?.admitted === true && sees(identity, record.owner) ? promptId : []
    }),
    latency_ms: worker.latencyMs ?? null,
    vram_total: worker.vramBytes ?? null,
    auth_username: config.auth?.username ?? null,
    auth_has_password: (config.auth?.password ?? '') !== '',
    header_names: Object.keys(config.headers),
    has_ca: config.ca !== undefined,
    metadata: config.metadata,
  }
}
