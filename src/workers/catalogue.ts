import { WorkerCallError } from '../comfyui/client.ts'
import { type ObjectInfo, objectInfoHash, reduceObjectInfo } from '../comfyui/object-info.ts'
import type { Worker } from './worker.ts'

/** ComfyUI builds this answer in its event loop, which can take many seconds with many node packs. */
const OBJECT_INFO_TIMEOUT_MS = 60_000

interface Known {
  info: ObjectInfo
  fetchedAt: number
}

/**
 * What each worker can run. Workers with the same answer share one reduced copy. The copy of a worker that is down is
 * kept: what it has is known, so a prompt for it waits instead of being refused.
 */
export class WorkerCatalogue {
  readonly #now: () => number
  readonly #known = new Map<Worker, Known>()
  readonly #fetching = new Map<Worker, Promise<void>>()
  #revision = 0

  constructor(options: { now: () => number }) {
    this.#now = options.now
  }

  /** Grows whenever what the fleet can run changes. */
  get revision(): number {
    return this.#revision
  }

  /** One per worker that was ever asked, equal ones repeated; by worker id. */
  infos(): readonly ObjectInfo[] {
    return [...this.#known].sort(([a], [b]) => (a.id < b.id ? -1 : 1)).map(([, known]) => known.info)
  }

  /** Asks the worker, once for callers at the same moment. Throws WorkerCallError; the former answer then stays. */
  fetch(worker: Worker, options: { signal?: AbortSignal } = {}): Promise<void> {
    const under = this.#fetching.get(worker)
    if (under) return under
    const fetching = this.#fetch(worker, options).finally(() => this.#fetching.delete(worker))
    this.#fetching.set(worker, fetching)
    return fetching
  }

  /** Asks those that are up and were asked longer ago than `maxAgeMs`; failures are left to their health checks. */
  async refresh(workers: readonly Worker[], options: { maxAgeMs: number; signal?: AbortSignal }): Promise<void> {
    const before = this.#now() - options.maxAgeMs
    const stale = workers.filter(
      (worker) => worker.state.kind === 'healthy' && (this.#known.get(worker)?.fetchedAt ?? 0) < before,
    )
    await Promise.allSettled(stale.map((worker) => this.fetch(worker, options)))
  }

  forget(worker: Worker): void {
    if (this.#known.delete(worker)) this.#revision++
  }

  async #fetch(worker: Worker, options: { signal?: AbortSignal }): Promise<void> {
    const [objectInfo, systemStats, features] = await Promise.all([
      worker.client.getJsonText('/object_info', { timeoutMs: OBJECT_INFO_TIMEOUT_MS, ...options }),
      worker.client.getJsonText('/system_stats', options),
      worker.client.getJsonText('/features', options),
    ])
    if (objectInfo === undefined) throw new WorkerCallError('protocol', 'GET /object_info answered 404')
    const before = this.#known.get(worker)?.info
    const hash = objectInfoHash(objectInfo)
    const info = this.#shared(hash) ?? reduce(objectInfo)
    this.#known.set(worker, { info, fetchedAt: this.#now() })
    worker.info = info
    worker.systemStats = systemStats
    worker.version = versionOf(systemStats)
    worker.vramBytes = vramOf(systemStats)
    worker.features = features
    if (before?.hash !== hash) this.#revision++
  }

  #shared(hash: string): ObjectInfo | undefined {
    for (const { info } of this.#known.values()) if (info.hash === hash) return info
    return undefined
  }
}

function reduce(text: string): ObjectInfo {
  try {
    return reduceObjectInfo(text)
  } catch (error) {
    throw new WorkerCallError('protocol', 'GET /object_info did not answer an object', { cause: error })
  }
}

interface SystemStats {
  system?: { comfyui_version?: unknown }
  devices?: { vram_total?: unknown }[]
}

function parseStats(text: string | undefined): SystemStats | undefined {
  try {
    return text === undefined ? undefined : (JSON.parse(text) as SystemStats) // Every member is looked at as unknown.
  } catch {
    return undefined
  }
}

function versionOf(text: string | undefined): string | undefined {
  const version = parseStats(text)?.system?.comfyui_version
  return typeof version === 'string' ? version.slice(0, 100) : undefined
}

function vramOf(text: string | undefined): number | undefined {
  const devices = parseStats(text)?.devices
  if (!Array.isArray(devices)) return undefined
  const sizes = devices.map((device) => device?.vram_total).filter((size) => typeof size === 'number')
  return sizes.length > 0 ? Math.max(...sizes) : undefined
}
