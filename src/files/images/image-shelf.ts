import { WorkerCallError } from '../../comfyui/client.ts'
import type { Worker } from '../../workers/worker.ts'
import type { BlobHash, OpenBlob } from '../blobs/blobs.ts'
import { nameBeside } from '../name-beside.ts'

/** A client's picture by the id that the client gave it. */
export interface ImageId {
  id: string
  hash: BlobHash
}

/** A worker may drop a picture a minute after it was put, once it has been used; ms, with time to spare for the prompt. */
const FRESH_MS = 30_000
const PATIENCE_MS = 30_000
const SLOWEST_BYTES_PER_MS = 1_000
const MAX_REMEMBERED = 2_000

/**
 * The pictures of clients that one worker has in its memory. Its ids are the gateway's own, by content: on a worker all
 * clients share one space of ids, and an id that is taken keeps its first content.
 */
export class ImageShelf {
  readonly #placed = new Map<string, { name: Promise<string>; at: number }>()

  /**
   * Answers the id under which the worker has it now, surely for a while; the client's own when the worker takes no such
   * pictures. Throws WorkerCallError.
   */
  async bring(worker: Worker, image: ImageId, blob: OpenBlob, signal: AbortSignal): Promise<string> {
    const key = `${image.hash} ${image.id}`
    const known = this.#placed.get(key)
    if (known && performance.now() - known.at < FRESH_MS) return known.name
    const name = this.#place(worker, image, blob, signal)
    this.#placed.delete(key)
    this.#placed.set(key, { name, at: performance.now() })
    for (const oldest of this.#placed.keys()) {
      if (this.#placed.size <= MAX_REMEMBERED) break
      this.#placed.delete(oldest)
    }
    name.catch(() => {
      if (this.#placed.get(key)?.name === name) this.#placed.delete(key)
    })
    return name
  }

  async #place(worker: Worker, { id, hash }: ImageId, blob: OpenBlob, signal: AbortSignal): Promise<string> {
    // The same id as last time lets the worker reuse what it has computed from it.
    const usual = nameBeside({ hash, name: id })
    const first = await put(worker, usual, blob, signal)
    if (first === 'none') return id
    if (first === 'new') return usual
    // It is there, but for how long is not known: it does not get younger by being put again.
    const another = nameBeside({ hash, name: id, round: Math.floor(Date.now() / FRESH_MS) })
    await put(worker, another, blob, signal)
    return another
  }
}

/** `there`: it was there before. `none`: this worker has no place for pictures. */
async function put(
  worker: Worker,
  name: string,
  blob: OpenBlob,
  signal: AbortSignal,
): Promise<'new' | 'there' | 'none'> {
  const answer = await worker.client.stream(
    {
      method: 'PUT',
      path: `/api/etn/image/${encodeURIComponent(name)}`,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(blob.size) },
      body: blob.stream(),
    },
    { timeoutMs: PATIENCE_MS + blob.size / SLOWEST_BYTES_PER_MS, signal },
  )
  answer.body.on('error', () => undefined).resume()
  if (answer.status === 201) return 'new'
  if (answer.status === 200) return 'there'
  if (answer.status === 404 || answer.status === 405) return 'none'
  throw new WorkerCallError('protocol', `PUT /api/etn/image answered ${answer.status}`, { status: answer.status })
}
