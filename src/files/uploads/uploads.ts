import { createHash } from 'node:crypto'
import type { Identity } from '../../auth/identity.ts'
import type { JsonValue, RecordStore, StoredRecord } from '../../store/store.ts'
import type { BlobHash, StoredBlob } from '../blobs/blobs.ts'
import { numberedName, placeOf, type UploadArea, type UploadName } from './upload-name.ts'

/** An uploaded file. */
export interface Upload extends UploadName {
  hash: BlobHash
  /** Bytes. */
  size: number
}

/** What is stored of a name. */
interface StoredUpload {
  type: UploadArea
  subfolder: string
  filename: string
  hash: BlobHash
  size: number
  /** Who put what there lately, newest last. */
  recent: { caller: string; hash: BlobHash; size: number; at: number }[]
}

export interface UploadsOptions {
  records: RecordStore
  /** Milliseconds since the epoch. */
  now: () => number
}

/**
 * For this long a caller's own upload comes before one that another caller has put in its place; ms. Two clients that
 * use one name with `overwrite` and submit at once then each get their own picture.
 */
const OWN_FIRST_MS = 60_000
const MAX_RECENT = 50
const OWNERS = 'upload-owners'

/** The uploaded files of each owner by their names, as ComfyUI gives names. The bytes are in the blob store. */
export class Uploads {
  readonly #records: RecordStore
  readonly #now: () => number
  /** Owners known to have uploads. */
  readonly #owners = new Set<string>()

  constructor({ records, now }: UploadsOptions) {
    this.#records = records
    this.#now = now
  }

  /**
   * Gives a blob its name by ComfyUI's rule: the wanted one when `overwrite` is set, when it is free, or when it holds the
   * same content; else the first numbered one for which that is so. Of two at the same moment each gets its own name.
   * `compared` is the content that is compared, when it is another than what is kept. Answers the name as it was wanted,
   * with its number.
   */
  async add(
    who: Identity,
    wanted: { type: UploadArea; subfolder: string; filename: string },
    blob: StoredBlob,
    options: { overwrite: boolean; compared?: BlobHash },
  ): Promise<string> {
    await this.#knowOwner(who.owner)
    const compared = options.compared ?? blob.hash
    for (let number = 0; ; ) {
      const filename = numberedName(wanted.filename, number)
      const place = this.#placeOf(wanted, filename)
      const before = await this.#records.get(collectionOf(who.owner), idOf(place))
      if (before && !options.overwrite) {
        if (read(before).hash === compared) return filename
        number++
        continue
      }
      if (await this.#put(who, place, blob, before)) return filename
      // Somebody was there first: look at the same name again.
    }
  }

  /** The name that `add` would give now. */
  async nameFor(
    owner: string,
    wanted: { type: UploadArea; subfolder: string; filename: string },
    options: { overwrite: boolean; compared: BlobHash },
  ): Promise<{ filename: string; isThere: boolean }> {
    for (let number = 0; ; number++) {
      const filename = numberedName(wanted.filename, number)
      if (options.overwrite) return { filename, isThere: false }
      const there = await this.find(owner, this.#placeOf(wanted, filename))
      if (!there || there.hash === options.compared) return { filename, isThere: there !== undefined }
    }
  }

  /** What an owner's name stands for. */
  async find(owner: string, name: UploadName): Promise<Upload | undefined> {
    const record = await this.#records.get(collectionOf(owner), idOf(name))
    return record && plain(read(record))
  }

  /** What a name stands for when this caller says it now: what it has put there a moment ago, else what is there. */
  async findFor(who: Identity, name: UploadName): Promise<Upload | undefined> {
    const record = await this.#records.get(collectionOf(who.owner), idOf(name))
    if (!record) return undefined
    const upload = read(record)
    const since = this.#now() - OWN_FIRST_MS
    const own = upload.recent.findLast(({ caller, at }) => caller === who.caller && at >= since)
    return plain(own ? { ...upload, hash: own.hash, size: own.size } : upload)
  }

  async hasAny(owner: string): Promise<boolean> {
    if (this.#owners.has(owner)) return true
    if (!(await this.#records.get(OWNERS, owner))) return false
    this.#owners.add(owner)
    return true
  }

  /** Everything of an owner, by no particular order. */
  async list(owner: string): Promise<Upload[]> {
    return (await this.#records.list(collectionOf(owner))).map((record) => plain(read(record)))
  }

  /** True when any owner has this content under a name. */
  async isUsed(hash: BlobHash): Promise<boolean> {
    for (const { id: owner } of await this.#records.list(OWNERS)) {
      if ((await this.#records.list(collectionOf(owner), { index: hash })).length > 0) return true
    }
    return false
  }

  async #put(who: Identity, place: UploadName, blob: StoredBlob, before: StoredRecord | undefined): Promise<boolean> {
    const at = this.#now()
    const recent = (before ? read(before).recent : []).filter(
      (each) => each.caller !== who.caller && each.at >= at - OWN_FIRST_MS,
    )
    recent.push({ caller: who.caller, hash: blob.hash, size: blob.size, at })
    const stored: StoredUpload = {
      type: place.type,
      subfolder: place.subfolder,
      filename: place.filename,
      hash: blob.hash,
      size: blob.size,
      recent: recent.slice(-MAX_RECENT),
    }
    const record = { id: idOf(place), value: stored as unknown as JsonValue, index: blob.hash }
    return (await this.#records.put(collectionOf(who.owner), record, { ifVersion: before?.version ?? 0 })) !== undefined
  }

  /** Before the first name is written, so that whoever looks for uses of a blob looks there too. */
  async #knowOwner(owner: string): Promise<void> {
    if (await this.hasAny(owner)) return
    await this.#records.put(OWNERS, { id: owner, value: null }, { ifVersion: 0 })
    this.#owners.add(owner)
  }

  #placeOf(wanted: { type: UploadArea; subfolder: string }, filename: string): UploadName {
    const place = placeOf(wanted.type, wanted.subfolder, filename)
    if ('problem' in place) throw new RangeError(`no name for an upload: ${place.problem}`)
    return place
  }
}

const collectionOf = (owner: string): string => `uploads:${owner}`

/** Of one length and without letters that a database could take for one another. */
const idOf = ({ type, subfolder, filename }: UploadName): string =>
  createHash('sha256').update(`${type}\0${subfolder}\0${filename}`).digest('hex')

/** The collections are written by this module alone. */
const read = (record: StoredRecord): StoredUpload => record.value as unknown as StoredUpload

const plain = ({ type, subfolder, filename, hash, size }: StoredUpload): Upload => ({
  type,
  subfolder,
  filename,
  hash,
  size,
})
