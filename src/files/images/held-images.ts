import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { JsonValue, RecordStore, StoredRecord } from '../../store/store.ts'
import type { BlobHash, BlobStore, StoredBlob } from '../blobs/blobs.ts'

/** A picture that a client has put under an id of its own. */
export interface HeldImage {
  hash: BlobHash
  /** Bytes. */
  size: number
  /** As its client named it; may be anything. */
  contentType: string
}

interface StoredImage extends HeldImage {
  owner: string
  id: string
  /** Milliseconds since the epoch; written now and then. */
  usedAt: number
}

export interface HeldImagesOptions {
  records: RecordStore
  blobs: Pick<BlobStore, 'delete'>
  /** True when something else than a held picture needs the content. */
  isUsedElsewhere(hash: BlobHash): Promise<boolean>
  /** Milliseconds since the epoch. */
  now: () => number
  log: Pick<Logger, 'warn' | 'debug'>
  limits?: Partial<HeldImageLimits>
}

/** Of each owner. What is over goes by last use, oldest first. */
export interface HeldImageLimits {
  images: number
  bytes: number
  /** Milliseconds since the last use. */
  ageMs: number
  /** Milliseconds since a content was put before it is deleted; a use of it may not be written down before. */
  untouchedMs: number
}

const LIMITS: HeldImageLimits = { images: 1_000, bytes: 2 * 1024 ** 3, ageMs: 3_600_000, untouchedMs: 60_000 }
const COLLECTION = 'held-images'
/** How far the stored time of use may lag behind. */
const USE_LAG_MS = 30_000

/**
 * Pictures that clients put under an id shortly before the prompts that name it, as Krita does. In ComfyUI they are in one
 * server's memory for some minutes; here each owner has its own, bounded, on disk.
 */
export class HeldImages {
  readonly #options: HeldImagesOptions
  readonly #limits: HeldImageLimits
  #tidying: Promise<void> | undefined

  constructor(options: HeldImagesOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
  }

  /** Answers `same` when the id has this content already; another one is replaced, for prompts to come. */
  async put(owner: string, id: string, blob: StoredBlob, contentType: string): Promise<'new' | 'same'> {
    const before = await this.#read(owner, id)
    await this.#write({ owner, id, hash: blob.hash, size: blob.size, contentType, usedAt: this.#options.now() })
    void this.tidy()
    return before?.hash === blob.hash ? 'same' : 'new'
  }

  /** It counts as used then. */
  async find(owner: string, id: string): Promise<HeldImage | undefined> {
    const image = await this.#read(owner, id)
    if (!image) return undefined
    const usedAt = this.#options.now()
    if (usedAt - image.usedAt > USE_LAG_MS) await this.#write({ ...image, usedAt })
    return { hash: image.hash, size: image.size, contentType: image.contentType }
  }

  async isUsed(hash: BlobHash): Promise<boolean> {
    return (await this.#options.records.list(COLLECTION, { index: hash })).length > 0
  }

  /** Removes what is over a limit. Does not throw. */
  tidy(): Promise<void> {
    this.#tidying ??= this.#tidy()
      .catch((error: unknown) => this.#options.log.warn({ err: error }, 'old pictures of clients could not be removed'))
      .finally(() => {
        this.#tidying = undefined
      })
    return this.#tidying
  }

  async #tidy(): Promise<void> {
    const { records, now } = this.#options
    const all = (await records.list(COLLECTION)).map(read)
    const kept = new Map<string, { images: number; bytes: number }>()
    for (const image of all.toSorted((a, b) => b.usedAt - a.usedAt)) {
      const { images, bytes } = kept.get(image.owner) ?? { images: 0, bytes: 0 }
      const isKept =
        images < this.#limits.images &&
        bytes + image.size <= this.#limits.bytes &&
        now() - image.usedAt < this.#limits.ageMs
      if (isKept) kept.set(image.owner, { images: images + 1, bytes: bytes + image.size })
      else await this.#remove(image)
    }
  }

  async #remove({ owner, id, hash }: StoredImage): Promise<void> {
    const { records, blobs, isUsedElsewhere } = this.#options
    // First the record: a blob without one is swept, a record without its blob would be a lie.
    await records.delete(COLLECTION, keyOf(owner, id))
    if ((await this.isUsed(hash)) || (await isUsedElsewhere(hash))) return
    await blobs.delete(hash, { untouchedMs: this.#limits.untouchedMs })
  }

  async #read(owner: string, id: string): Promise<StoredImage | undefined> {
    const record = await this.#options.records.get(COLLECTION, keyOf(owner, id))
    const image = record && read(record)
    return image && this.#options.now() - image.usedAt < this.#limits.ageMs ? image : undefined
  }

  async #write(image: StoredImage): Promise<void> {
    const value: JsonValue = { ...image }
    await this.#options.records.put(COLLECTION, { id: keyOf(image.owner, image.id), value, index: image.hash })
  }
}

/** Of one length and without letters that a database could take for one another. */
const keyOf = (owner: string, id: string): string => createHash('sha256').update(`${owner}\0${id}`).digest('hex')

/** The collection is written by this module alone. */
const read = (record: StoredRecord): StoredImage => record.value as unknown as StoredImage
