import { randomUUID } from 'node:crypto'
import { WorkerCallError } from '../comfyui/client.ts'
import { NoWorkerError } from '../errors.ts'
import type { WorkerRegistry } from '../workers/registry.ts'
import type { Worker } from '../workers/worker.ts'
import type { BlobStore, OpenBlob, StoredBlob } from './blobs/blobs.ts'
import type { LocateFile, WantedFile } from './locate.ts'
import type { UploadName } from './uploads/upload-name.ts'
import { copyFromWorker, uploadTo } from './worker-files.ts'

/**
 * Work on pixels, done by a worker: the gateway decodes no pictures. What the worker gets for it lies among its temporary
 * files, under names that say their content.
 */

export interface PixelWorkOptions {
  blobs: BlobStore
  registry: Pick<WorkerRegistry, 'get' | 'list'>
  locate: LocateFile
  /** Bytes of the largest picture. */
  maxBytes: number
}

/** What became of a mask. */
export type MaskResult =
  | { kind: 'merged'; blob: StoredBlob }
  /** The picture it belongs to is not there, so there is nothing to write. */
  | { kind: 'nothing' }
  /** The worker could not do it: what its own answer was. */
  | { kind: 'refused'; status: number }

export type PixelWork = ReturnType<typeof createPixelWork>

export function createPixelWork({ blobs, registry, locate, maxBytes }: PixelWorkOptions) {
  /** Does it on the first healthy worker that can. Throws NoWorkerError, or the last worker's WorkerCallError. */
  async function onSomeWorker<T>(work: (worker: Worker) => Promise<T>): Promise<T> {
    const healthy = registry.list().filter(({ state }) => state.kind === 'healthy')
    let failure: unknown = new NoWorkerError()
    for (const worker of healthy.toSorted((a, b) => a.load - b.load)) {
      try {
        return await work(worker)
      } catch (error) {
        if (!(error instanceof WorkerCallError) || error.fault === 'aborted') throw error
        failure = error
      }
    }
    throw failure
  }

  /** Among the worker's temporary files, under a name that no other content has. */
  const bring = (worker: Worker, blob: OpenBlob, filename: string): Promise<UploadName> => {
    const name = `${blob.hash.slice(0, 12)}-${plainName(filename)}`
    return uploadTo(worker, { type: 'temp', subfolder: '', filename: name }, blob)
  }

  async function copyFrom(worker: Worker, file: UploadName): Promise<OpenBlob | undefined> {
    const blob = await copyFromWorker(worker, file, { blobs, maxBytes })
    return blob && blob !== 'same' ? blobs.open(blob.hash) : undefined
  }

  /** The bytes of a file in the clients' namespace, wherever they are. */
  async function openAnywhere(wanted: WantedFile): Promise<OpenBlob | undefined> {
    let place = await locate(wanted)
    if (place.kind === 'blob') {
      const blob = await blobs.open(place.hash)
      if (blob) return blob
      place = await place.orElse()
    }
    const file = { type: wanted.type, filename: wanted.filename }
    if (place.kind === 'worker') {
      const worker = registry.get(place.workerId)
      return worker && copyFrom(worker, { ...file, subfolder: place.subfolder })
    }
    if (place.kind !== 'anywhere') return undefined
    for (const worker of registry.list().filter(({ state }) => state.kind === 'healthy')) {
      const blob = await copyFrom(worker, { ...file, subfolder: place.subfolder }).catch(() => undefined)
      if (blob) return blob
    }
    return undefined
  }

  return {
    /** Puts a mask on the picture it belongs to. `filename` is the upload's own: its ending decides the format. */
    async mergeMask(original: WantedFile, mask: OpenBlob, filename: string): Promise<MaskResult> {
      const picture = await openAnywhere(original)
      if (!picture) return { kind: 'nothing' }
      return onSomeWorker(async (worker) => {
        const there = await bring(worker, picture, original.filename)
        const ref = { filename: there.filename, subfolder: there.subfolder, type: there.type }
        const target: UploadName = { type: 'temp', subfolder: '', filename: `${randomUUID()}-${plainName(filename)}` }
        let merged: UploadName
        try {
          merged = await uploadTo(worker, target, mask, {
            route: '/upload/mask',
            fields: { original_ref: JSON.stringify(ref), overwrite: 'true' },
          })
        } catch (error) {
          // What is no picture for one worker is none for the next.
          const status = error instanceof WorkerCallError && error.fault === 'protocol' ? error.status : undefined
          if (status === 400 || status === 500) return { kind: 'refused', status }
          throw error
        }
        const blob = await copyFrom(worker, merged)
        return blob ? { kind: 'merged', blob: { hash: blob.hash, size: blob.size } } : { kind: 'nothing' }
      })
    },

    /** A healthy worker that has this content as a temporary file, and how it knows it. */
    async placed(blob: OpenBlob, filename: string): Promise<{ worker: Worker; file: UploadName }> {
      return onSomeWorker(async (worker) => ({ worker, file: await bring(worker, blob, filename) }))
    },
  }
}

const MAX_PLAIN = 100

/** A name that passes through any form and file system unchanged, with the ending of the given one. */
const plainName = (filename: string): string => filename.replace(/[^\w.-]/g, '_').slice(-MAX_PLAIN)
