import type { Logger } from 'pino'
import type { Identity } from '../auth/identity.ts'
import { detach } from '../comfyui/raw-json.ts'
import type { InputBinding } from '../scheduler/traits.ts'
import type { WorkerRegistry } from '../workers/registry.ts'
import type { BlobHash, BlobStore } from './blobs/blobs.ts'
import type { HeldImages } from './images/held-images.ts'
import { MAX_ID_LENGTH, takesImageIds } from './images/image-ids.ts'
import type { LocateFile } from './locate.ts'
import { readFileLiteral } from './names.ts'
import { readUploadLiteral, type UploadName } from './uploads/upload-name.ts'
import type { Uploads } from './uploads/uploads.ts'
import { copyFromWorker } from './worker-files.ts'

export interface InputBinderOptions {
  uploads: Uploads
  blobs: BlobStore
  images: Pick<HeldImages, 'find'>
  locate: LocateFile
  registry: Pick<WorkerRegistry, 'get' | 'list' | 'byToken'>
  /** Bytes of the largest file that is fetched from a worker. */
  maxBytes: number
  log: Logger
}

/** Longer strings are no file names. */
const MAX_LITERAL = 1_024
/** A literal of many files is looked up in one list. */
const MANY = 200
/** More ids of pictures in one graph are not looked up. */
const MAX_IMAGES = 500
/** Milliseconds to fetch a file from the worker that made it; then the prompt goes to that worker. */
const FETCH_TIMEOUT_MS = 10_000

export type InputBinder = ReturnType<typeof createInputBinder>

/** Finds what the literals of a graph name, at the moment when the prompt comes: later uploads change nothing for it. */
export function createInputBinder({ uploads, blobs, images, locate, registry, maxBytes, log }: InputBinderOptions) {
  type Candidate = UploadName & { literal: string }

  async function bindInputs(candidates: readonly Candidate[], who: Identity): Promise<InputBinding[]> {
    if (candidates.length === 0 || !(await uploads.hasAny(who.owner))) return []
    let wanted = candidates
    if (candidates.length > MANY) {
      const known = new Set((await uploads.list(who.owner)).map(keyOf))
      wanted = candidates.filter((candidate) => known.has(keyOf(candidate)))
    }
    const found = await Promise.all(wanted.map((candidate) => uploads.findFor(who, candidate)))
    return wanted.flatMap((candidate, index) => {
      const hash = found[index]?.hash
      return hash === undefined ? [] : [bindingOf(candidate, hash)]
    })
  }

  /** An output, on whichever worker it is: from the copy, or copied now. Undefined: the worker that runs may know it. */
  async function bindOutput(candidate: Candidate, who: Identity, area: 'temp' | 'output') {
    const { subfolder, filename } = candidate
    const own = await uploads.findFor(who, { type: area, subfolder, filename })
    if (own) return bindingOf(candidate, own.hash)
    let place = await locate({ owner: who.owner, type: area, subfolder, filename, promptId: undefined })
    if (place.kind === 'blob') {
      if (await blobs.open(place.hash)) return bindingOf(candidate, place.hash)
      place = await place.orElse()
    }
    if (place.kind !== 'worker') return undefined
    const holder = registry.get(place.workerId)
    // With one worker there is nowhere else to bring it.
    if (holder?.state.kind !== 'healthy' || registry.list().length === 1) return undefined
    try {
      const file = { type: area, subfolder: place.subfolder, filename }
      const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS)
      const blob = await copyFromWorker(holder, file, { blobs, maxBytes, signal })
      return blob && blob !== 'same' ? bindingOf(candidate, blob.hash) : undefined
    } catch (error) {
      log.warn({ workerId: holder.id, err: error }, 'a file that a prompt names could not be copied from its worker')
      return undefined
    }
  }

  /** Ids of pictures that the owner has put, where a node may take one. */
  async function bindImages(
    literals: readonly { classType: string; value: string }[],
    who: Identity,
  ): Promise<InputBinding[]> {
    const ids = literals.filter(({ classType, value }) => takesImageIds(classType) && value.length <= MAX_ID_LENGTH)
    const bound = await Promise.all(
      [...new Set(ids.map(({ value }) => value))].slice(0, MAX_IMAGES).map(async (id) => {
        const image = id === '' ? undefined : await images.find(who.owner, id)
        return (
          image && { literal: detach(id), hash: image.hash, name: detach(id), subfolder: '', type: 'held' as const }
        )
      }),
    )
    return bound.flatMap((each) => each ?? [])
  }

  return {
    /** Bindings of those literals that name an upload of the owner, or an output that can be brought to any worker. */
    async bind(literals: readonly { classType: string; value: string }[], who: Identity): Promise<InputBinding[]> {
      const inputs: Candidate[] = []
      const outputs: Promise<InputBinding | undefined>[] = []
      for (const literal of new Set(literals.map(({ value }) => value))) {
        const file = literal.length <= MAX_LITERAL ? readUploadLiteral(literal) : undefined
        if (!file) continue
        const token = readFileLiteral(literal)?.token
        const candidate = { type: file.type, subfolder: file.subfolder, filename: file.filename, literal }
        if (token !== undefined && registry.byToken(token)) {
          outputs.push(bindOutput(candidate, who, file.type === 'temp' ? 'temp' : 'output'))
        } else if (file.type === 'input') {
          if (mayNameFile(file)) inputs.push(candidate)
        } else {
          outputs.push(bindOutput(candidate, who, file.type))
        }
      }
      const bound = await Promise.all([bindInputs(inputs, who), bindImages(literals, who), ...outputs])
      return bound.flatMap((each) => each ?? [])
    },
  }

  function bindingOf({ literal, type, subfolder, filename }: Candidate, hash: BlobHash): InputBinding {
    const token = readFileLiteral(literal)?.token
    const isOutput = token !== undefined && registry.byToken(token) !== undefined
    const folder = isOutput ? subfolder.slice(token.length + 1) : subfolder
    // It stays with the prompt in memory, and the literal is a piece of a body of many megabytes.
    return { literal: detach(literal), hash, name: detach(filename), subfolder: detach(folder), type }
  }
}

const keyOf = ({ type, subfolder, filename }: UploadName): string => `${type}/${subfolder}/${filename}`

/** Prose is not looked up: a name has an ending, or is short and without blanks. */
const mayNameFile = ({ subfolder, filename }: UploadName): boolean =>
  !/[\n\r]/.test(subfolder + filename) && (/\.\w{1,12}$/.test(filename) || /^\S{1,100}$/.test(filename))
