import { createHash } from 'node:crypto'
import PQueue from 'p-queue'
import { WorkerCallError } from '../comfyui/client.ts'
import type { InputBinding } from '../scheduler/traits.ts'
import type { WorkerId } from '../store/store.ts'
import type { Worker } from '../workers/worker.ts'
import type { BlobHash, BlobStore, OpenBlob } from './blobs/blobs.ts'
import { ImageShelf } from './images/image-shelf.ts'
import { nameBeside } from './name-beside.ts'
import { readUploadLiteral, type UploadArea } from './uploads/upload-name.ts'
import { fetchFrom, uploadTo } from './worker-files.ts'

/** A file that a prompt is bound to is not there any more. */
export class InputLostError extends Error {
  constructor(name: string) {
    super(`the file ${name} that it names is not there any more`)
    this.name = 'InputLostError'
  }
}

/** What a worker calls the files of a prompt. */
export interface DeliveredInputs {
  /** The literal for this worker, by the literal of the graph. */
  literals: ReadonlyMap<string, string>
  /** The id for this worker, by the id of a client's picture. */
  images: ReadonlyMap<string, string>
  /** Nothing was asked of the worker: it was known to have all of them. */
  isFromMemory: boolean
}

interface WorkerShelf {
  queue: PQueue
  /** Name of each file it has, by place and content. */
  placed: Map<string, Promise<string>>
  /** Content under a name of the clients', as far as it was seen. */
  seen: Map<string, BlobHash>
  images: ImageShelf
}

type FileBinding = InputBinding & { type: UploadArea }

/** Files at the same time to one worker. */
const PARALLEL = 2
const MAX_REMEMBERED = 20_000

/**
 * Brings the files of prompts to workers, each content once to each worker. A worker's own file is never overwritten:
 * where the name is taken by another content, the file goes beside it under a name that tells its content.
 */
export class InputDelivery {
  readonly #blobs: Pick<BlobStore, 'open'>
  readonly #shelves = new Map<WorkerId, WorkerShelf>()

  constructor({ blobs }: { blobs: Pick<BlobStore, 'open'> }) {
    this.#blobs = blobs
  }

  /** Resolves when the worker has all of them. Throws WorkerCallError, InputLostError. */
  async deliver(
    worker: Worker,
    inputs: readonly InputBinding[],
    options: { signal: AbortSignal },
  ): Promise<DeliveredInputs> {
    const shelf = this.#shelfOf(worker.id)
    const files = inputs.filter(isFile)
    const isFromMemory = files.every((input) => shelf.placed.has(keyOf(input)))
    const images = await Promise.all(
      inputs
        .filter((input) => !isFile(input))
        .map(async (input) => [input.literal, await this.#bringImage(shelf, worker, input, options.signal)] as const),
    )
    const named = await Promise.all(
      files.map(async (input) => {
        const name = await this.#place(shelf, worker, input, options.signal)
        const annotation = readUploadLiteral(input.literal)?.annotation ?? ''
        const path = input.subfolder === '' ? name : `${input.subfolder}/${name}`
        return [input.literal, `${path}${annotation}`] as const
      }),
    )
    return { literals: new Map(named), images: new Map(images), isFromMemory }
  }

  /** The worker may not have any more what it had: it was away. */
  forget(workerId: WorkerId): void {
    // What is under way goes on for those who wait for it, and nobody else finds it.
    this.#shelves.delete(workerId)
  }

  #shelfOf(workerId: WorkerId): WorkerShelf {
    const known = this.#shelves.get(workerId)
    if (known && known.placed.size < MAX_REMEMBERED) return known
    const shelf = {
      queue: known?.queue ?? new PQueue({ concurrency: PARALLEL }),
      placed: new Map(),
      seen: new Map(),
      images: known?.images ?? new ImageShelf(),
    }
    this.#shelves.set(workerId, shelf)
    return shelf
  }

  #place(shelf: WorkerShelf, worker: Worker, input: FileBinding, signal: AbortSignal): Promise<string> {
    const key = keyOf(input)
    const known = shelf.placed.get(key)
    if (known) return known
    const placing = shelf.queue.add(() => this.#bring(shelf, worker, input, signal))
    shelf.placed.set(key, placing)
    placing.catch(() => {
      if (shelf.placed.get(key) === placing) shelf.placed.delete(key)
    })
    return placing
  }

  #bringImage(shelf: WorkerShelf, worker: Worker, input: InputBinding, signal: AbortSignal): Promise<string> {
    return shelf.queue.add(async () => {
      const blob = await this.#blobs.open(input.hash)
      if (!blob) throw new InputLostError(input.name)
      return shelf.images.bring(worker, { id: input.name, hash: input.hash }, blob, signal)
    })
  }

  async #bring(shelf: WorkerShelf, worker: Worker, input: FileBinding, signal: AbortSignal): Promise<string> {
    const { type, subfolder, name, hash } = input
    const blob = await this.#blobs.open(hash)
    if (!blob) throw new InputLostError(name)
    const place = placeOf(input)
    const there = shelf.seen.get(place) ?? (await contentOn(worker, input, blob, signal))
    if (there === hash) {
      shelf.seen.set(place, hash)
      return name
    }
    // Among outputs the name would count as one that the worker has given.
    if (there === undefined && type === 'input') {
      const given = await uploadTo(worker, { type, subfolder, filename: name }, blob, { signal })
      shelf.seen.set(place, given.filename === name ? hash : 'another')
      if (given.filename === name) return name
    } else if (there !== undefined) shelf.seen.set(place, there)
    const beside = { type, subfolder, filename: nameBeside(input) }
    return (await uploadTo(worker, beside, blob, { signal })).filename
  }
}

const isFile = (input: InputBinding): input is FileBinding => input.type !== 'held'

const placeOf = ({ type, subfolder, name }: FileBinding): string => `${type}/${subfolder}/${name}`
const keyOf = (input: FileBinding): string => `${input.hash} ${placeOf(input)}`

/** The content that a worker has under the name: `blob`'s hash, any other word for another content, undefined for none. */
async function contentOn(
  worker: Worker,
  input: FileBinding,
  blob: OpenBlob,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { type, subfolder, name } = input
  const answer = await fetchFrom(worker, { type, subfolder, filename: name }, { signal })
  if (!answer) return undefined
  const length = answer.headers['content-length']
  if (length !== undefined && Number(length) !== blob.size) {
    answer.body.on('error', () => undefined).destroy()
    return 'another'
  }
  const hash = createHash('sha256')
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) hash.update(chunk)
  } catch (error) {
    throw new WorkerCallError('reset', 'the file broke off', { cause: error })
  }
  return hash.digest('hex')
}
