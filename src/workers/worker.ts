import type { ComfyClient } from '../comfyui/client.ts'
import type { ObjectInfo } from '../comfyui/object-info.ts'
import type { PromptId, WorkerId } from '../store/store.ts'
import type { WorkerState } from './health.ts'

/** What is configured of a worker. Secrets are in the open here; the registry seals them for the store. */
export interface WorkerConfig {
  id: WorkerId
  /** Canonical: no user, no query, no trailing slash. */
  url: string
  name: string
  /** Breaks ties between equally loaded workers; the higher the sooner. */
  weight: number
  /** Prompts it runs at the same time: 1 for a ComfyUI. */
  slots: number
  tags: readonly string[]
  enabled: boolean
  /** Finishes what it has, gets nothing new. */
  draining: boolean
  headers: Readonly<Record<string, string>>
  ca: string | undefined
  auth: { username: string; password: string } | undefined
  /** It came from the operator's settings, not from the API. */
  isConfigured: boolean
  metadata: Readonly<Record<string, unknown>>
  /** Name of its disk in clients' `subfolder`. */
  token: string
  /** The client id its prompts are posted under. */
  upstreamClientId: string
}

/** How far the dispatch of a prompt to a worker has come. */
export type DispatchPhase = 'posting' | 'accepted' | 'running'

export interface InFlight {
  promptId: PromptId
  upstreamId: string
  phase: DispatchPhase
}

/** One ComfyUI behind the gateway: its configuration and what is known of it now. */
export class Worker {
  config: WorkerConfig
  client: ComfyClient
  state: WorkerState = { kind: 'connecting' }
  /** What it can run; undefined until it was asked. */
  info: ObjectInfo | undefined
  /** Text of its last `GET /system_stats` and the version in it. */
  systemStats: string | undefined
  version: string | undefined
  /** Memory of its largest device, bytes. */
  vramBytes: number | undefined
  /** Text of its last `GET /features`. */
  features: string | undefined
  /** Prompts of ours it holds, by prompt id. A slot is reserved here before the call. */
  readonly inFlight = new Map<PromptId, InFlight>()
  /** Prompts in its queue that others put there, as last seen. */
  foreignRunning = 0
  foreignPending = 0
  /** Upstream id of a prompt that it runs without getting on; it is given nothing until its queue moves. */
  stalledOn: string | undefined
  /** Milliseconds its last check took. */
  latencyMs: number | undefined
  /** A socket was open under its upstream client id, perhaps by a former process; the worker may have one left over. */
  wasConnected = true
  /** Prompts ever sent to it by this process; spreads equal choices. */
  dispatched = 0
  readonly #prefetch: number

  constructor(config: WorkerConfig, client: ComfyClient, options: { prefetch: number }) {
    this.config = config
    this.client = client
    this.#prefetch = options.prefetch
  }

  get id(): WorkerId {
    return this.config.id
  }

  /** Prompts it holds, ours and others'. */
  get load(): number {
    return this.inFlight.size + this.foreignRunning + this.foreignPending
  }

  /** Healthy, asked what it can run, enabled, not draining; says nothing about room. */
  get isUp(): boolean {
    const { enabled, draining } = this.config
    const isWell = this.state.kind === 'healthy' && this.stalledOn === undefined
    return isWell && this.info !== undefined && enabled && !draining
  }

  /** True when it holds nothing, so that a prompt sent now starts at once. */
  get isIdle(): boolean {
    return this.load === 0
  }

  /**
   * Whether one more prompt may be sent. Beyond its slots it gets the next one only when it has confirmed all earlier
   * ones, so a worker that hangs holds one prompt and not two.
   */
  get hasRoom(): boolean {
    if (this.load < this.config.slots) return true
    if (this.load >= this.config.slots + this.#prefetch) return false
    for (const prompt of this.inFlight.values()) if (prompt.phase === 'posting') return false
    return true
  }

  get isAvailable(): boolean {
    return this.isUp && this.hasRoom
  }

  /** Takes a slot before the first await, so that simultaneous submits spread. */
  reserve(promptId: PromptId, upstreamId: string): InFlight {
    const entry: InFlight = { promptId, upstreamId, phase: 'posting' }
    this.inFlight.set(promptId, entry)
    this.dispatched++
    return entry
  }

  /** Gives a slot back; nothing happens when it was given back before. */
  release(slot: InFlight): void {
    if (this.inFlight.get(slot.promptId) === slot) this.inFlight.delete(slot.promptId)
  }
}
