import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { mergeClass, mergeObjectInfo } from '../comfyui/object-info-merge.ts'
import { NoWorkerError } from '../errors.ts'
import { atMost } from './at-most.ts'
import type { WorkerCatalogue } from './catalogue.ts'
import type { WorkerRegistry } from './registry.ts'

/** The merged answer, as it is and compressed. */
export interface ObjectInfoAnswer {
  plain: Buffer
  gzip: Buffer
}

export interface FleetObjectInfoOptions {
  catalogue: Pick<WorkerCatalogue, 'revision' | 'infos' | 'refresh'>
  registry: Pick<WorkerRegistry, 'list'>
  /** Milliseconds after which a worker is asked again when a client asks. */
  maxAgeMs?: number
  /** Milliseconds a client waits for workers that are asked again. */
  waitMs?: number
  /** Monotonic milliseconds. */
  now: () => number
}

const compress = promisify(gzip)
const MAX_AGE_MS = 30_000
const WAIT_MS = 5_000
const MAX_CLASSES = 10_000

/** One `object_info` for the fleet: merged and compressed once for each state of the catalogue. */
export class FleetObjectInfo {
  readonly #options: Required<FleetObjectInfoOptions>
  #whole: { revision: number; answer: Promise<ObjectInfoAnswer> } | undefined
  #classes: { revision: number; texts: Map<string, string> } | undefined
  #refreshing: { since: number; done: Promise<void> } | undefined

  constructor(options: FleetObjectInfoOptions) {
    this.#options = { maxAgeMs: MAX_AGE_MS, waitMs: WAIT_MS, ...options }
  }

  /** All classes. Throws NoWorkerError while no worker has ever told what it can run. */
  async whole(): Promise<ObjectInfoAnswer> {
    await this.#refresh()
    const { catalogue } = this.#options
    const infos = catalogue.infos()
    if (infos.length === 0) throw new NoWorkerError('No worker has told what it can run yet')
    if (this.#whole?.revision !== catalogue.revision) {
      const plain = Buffer.from(mergeObjectInfo(infos))
      const answer = compress(plain).then((packed) => ({ plain, gzip: packed }))
      this.#whole = { revision: catalogue.revision, answer }
    }
    return this.#whole.answer
  }

  /** JSON text with one member, or `{}` for a class that no worker has. */
  async ofClass(classType: string): Promise<string> {
    await this.#refresh()
    const { catalogue } = this.#options
    if (this.#classes?.revision !== catalogue.revision) {
      this.#classes = { revision: catalogue.revision, texts: new Map() }
    }
    const { texts } = this.#classes
    const known = texts.get(classType)
    if (known !== undefined) return known
    const text = mergeClass(catalogue.infos(), classType)
    // Names of classes that do not exist are without number.
    if (text !== '{}' && texts.size < MAX_CLASSES) texts.set(classType, text)
    return text
  }

  /** Asks workers whose answer is old, and waits for them, but not longer than once and for all `waitMs`. */
  async #refresh(): Promise<void> {
    const { catalogue, registry, maxAgeMs, waitMs, now } = this.#options
    if (!this.#refreshing) {
      const done = catalogue.refresh(registry.list(), { maxAgeMs }).finally(() => {
        this.#refreshing = undefined
      })
      this.#refreshing = { since: now(), done }
    }
    const { since, done } = this.#refreshing
    const leftMs = since + waitMs - now()
    if (leftMs > 0) await atMost(leftMs, done)
  }
}
