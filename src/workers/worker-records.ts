import { createHash, randomUUID } from 'node:crypto'
import type { Sealer } from '../auth/sealer.ts'
import type { WorkerSeed } from '../config/worker-seed.ts'
import type { JsonValue, RecordStore, StoredRecord } from '../store/store.ts'
import type { WorkerConfig } from './worker.ts'

const COLLECTION = 'workers'

/** A worker's record in the store. A removed one stays as a mark, so that configuration does not bring it back. */
interface StoredWorker {
  url: string
  name: string
  weight: number
  slots: number
  tags: string[]
  enabled: boolean
  draining: boolean
  /** Sealed JSON of headers and auth. */
  secrets: string
  ca: string | null
  metadata: Record<string, JsonValue>
  isConfigured: boolean
  /** Which disk of this URL it is: grows when a name that was given out comes again with other content. */
  disk: number
  upstreamClientId: string
  removed: boolean
}

/** Reads and writes workers in the generic collection. Every write is the whole record; the last one wins. */
export interface WorkerRecords {
  /** Adds seeds whose URL was never seen, then answers all that are not removed. */
  load(seeds: readonly WorkerSeed[]): Promise<WorkerConfig[]>
  save(config: WorkerConfig): Promise<void>
  /** Marks it as removed; its URL can be added again. */
  remove(config: WorkerConfig): Promise<void>
}

export function createWorkerRecords(records: RecordStore, sealer: Sealer): WorkerRecords {
  const toConfig = (record: StoredRecord): WorkerConfig | undefined => {
    // The collection is written by this module alone.
    const stored = record.value as unknown as StoredWorker
    if (stored.removed) return undefined
    const secrets = readSecrets(sealer.open(stored.secrets))
    return {
      id: record.id,
      url: stored.url,
      name: stored.name,
      weight: stored.weight,
      slots: stored.slots,
      tags: stored.tags,
      enabled: stored.enabled,
      draining: stored.draining,
      headers: secrets.headers,
      ca: stored.ca ?? undefined,
      auth: secrets.auth,
      metadata: stored.metadata,
      isConfigured: stored.isConfigured,
      token: diskToken(stored.url, stored.disk),
      upstreamClientId: stored.upstreamClientId,
    }
  }
  const put = (config: WorkerConfig, removed: boolean) => {
    const stored: StoredWorker = {
      url: config.url,
      name: config.name,
      weight: config.weight,
      slots: config.slots,
      tags: [...config.tags],
      enabled: config.enabled,
      draining: config.draining,
      secrets: sealer.seal(JSON.stringify({ headers: config.headers, auth: config.auth })),
      ca: config.ca ?? null,
      metadata: config.metadata as Record<string, JsonValue>, // It came from JSON or YAML.
      isConfigured: config.isConfigured,
      disk: diskOf(config.token),
      upstreamClientId: config.upstreamClientId,
      removed,
    }
    return records.put(COLLECTION, { id: config.id, value: stored as unknown as JsonValue, index: config.url })
  }
  return {
    async load(seeds) {
      const known = new Set((await records.list(COLLECTION)).map((record) => record.index))
      for (const seed of seeds) {
        if (!known.has(seed.url)) await put(configOf(seed, { isConfigured: true }), false)
        known.add(seed.url)
      }
      const all = await records.list(COLLECTION)
      return all.map(toConfig).filter((config) => config !== undefined)
    },
    async save(config) {
      await put(config, false)
    },
    async remove(config) {
      await put(config, true)
    },
  }
}

/** A new worker's configuration from what was said of it. */
export function configOf(seed: WorkerSeed, { isConfigured }: { isConfigured: boolean }): WorkerConfig {
  return {
    id: workerIdOf(seed.url),
    url: seed.url,
    name: seed.name ?? new URL(seed.url).host,
    weight: seed.weight,
    slots: seed.slots,
    tags: seed.tags,
    enabled: true,
    draining: false,
    headers: seed.headers,
    ca: seed.ca,
    auth: seed.auth,
    metadata: seed.metadata,
    isConfigured,
    token: diskToken(seed.url, 1),
    upstreamClientId: randomUUID(),
  }
}

/** Stable per URL, so that a worker removed and added again keeps its history. */
export const workerIdOf = (url: string): string => `w-${hashOf(url)}`

/** Path-safe and opaque; says nothing of the address. Disks after the first carry their number. */
const diskToken = (url: string, disk: number): string => `${hashOf(`disk ${url}`)}${disk > 1 ? `-${disk}` : ''}`

/** The token of the next disk of the same worker. */
export function nextDiskToken(token: string): string {
  const disk = diskOf(token)
  return `${tokenBase(token)}-${disk + 1}`
}

/** The number of the disk that a token stands for; the first is 1. */
export const diskOf = (token: string): number => Number(/-(\d+)$/.exec(token)?.[1] ?? '1')

/** What the tokens of all disks of one worker have in common. */
export const tokenBase = (token: string): string => token.replace(/-\d+$/, '')

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 10)

function readSecrets(text: string | undefined): Pick<WorkerConfig, 'headers' | 'auth'> {
  // Undefined when SECRET_KEY changed: the worker then answers 401, which its state shows.
  if (text === undefined) return { headers: {}, auth: undefined }
  const value = JSON.parse(text) as Pick<WorkerConfig, 'headers' | 'auth'> // Written by `put` and authenticated by the seal.
  return { headers: value.headers, auth: value.auth }
}
