import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { type StreamedAnswer, WorkerCallError } from '../comfyui/client.ts'
import { HttpError } from '../errors.ts'
import type { Worker } from '../workers/worker.ts'
import { type BlobStore, BlobTooLargeError, type OpenBlob, type StoredBlob } from './blobs/blobs.ts'
import { isUploadArea, type UploadName } from './uploads/upload-name.ts'

/** Files on their way between the gateway and a worker, over the worker's own upload and view routes. */

/** A worker may take this long beside the time that the bytes need on a slow line; ms. */
const PATIENCE_MS = 30_000
const SLOWEST_BYTES_PER_MS = 1_000
const MAX_ANSWER_BYTES = 64 * 1024

/**
 * Brings a file to a worker and answers the name that it got there: the one that was asked for, unless another file with
 * other content has it. Throws WorkerCallError, with the status when the worker refused it.
 */
export async function uploadTo(
  worker: Worker,
  file: UploadName,
  blob: OpenBlob,
  options: { signal?: AbortSignal; route?: '/upload/image' | '/upload/mask'; fields?: Record<string, string> } = {},
): Promise<UploadName> {
  const { signal, route = '/upload/image' } = options
  const mark = randomUUID()
  const fields = { type: file.type, subfolder: file.subfolder, ...options.fields }
  const head = Buffer.from(
    `${Object.entries(fields)
      .map(([name, value]) => `--${mark}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`)
      .join('')}--${mark}\r\nContent-Disposition: form-data; name="image"; filename="${quoted(file.filename)}"\r\n` +
      'Content-Type: application/octet-stream\r\n\r\n',
  )
  const tail = Buffer.from(`\r\n--${mark}--\r\n`)
  const answer = await worker.client.stream(
    {
      method: 'POST',
      path: route,
      headers: {
        'content-type': `multipart/form-data; boundary=${mark}`,
        'content-length': String(head.length + blob.size + tail.length),
      },
      body: Readable.from(between(head, blob, tail)),
    },
    { timeoutMs: PATIENCE_MS + blob.size / SLOWEST_BYTES_PER_MS, ...(signal ? { signal } : {}) },
  )
  return readAnswer(answer, route)
}

async function* between(head: Buffer, blob: OpenBlob, tail: Buffer): AsyncGenerator<Buffer> {
  yield head
  yield* blob.stream() as AsyncIterable<Buffer>
  yield tail
}

/**
 * A file of a worker as a stream; undefined when it has none of that name. Throws WorkerCallError. The caller reads or
 * destroys the body.
 */
export async function fetchFrom(
  worker: Worker,
  file: UploadName,
  options: { signal?: AbortSignal } = {},
): Promise<StreamedAnswer | undefined> {
  const answer = await ask(worker, file, {}, options)
  if (answer === undefined || answer.status === 200) return answer
  throw unusable(answer)
}

/**
 * Keeps a worker's file as a blob; undefined when it has none of that name, `same` when it is still the one of which the
 * worker has said `knownEtag`. Throws as `fetchFrom` and `BlobStore.put`.
 */
export async function copyFromWorker(
  worker: Worker,
  file: UploadName,
  options: { blobs: BlobStore; maxBytes: number; knownEtag?: string; signal?: AbortSignal },
): Promise<(StoredBlob & { etag: string | undefined }) | 'same' | undefined> {
  const { blobs, maxBytes, knownEtag, signal } = options
  const headers = knownEtag === undefined ? {} : { 'if-none-match': knownEtag }
  const answer = await ask(worker, file, headers, signal ? { signal } : {})
  if (!answer) return undefined
  if (answer.status === 304) {
    answer.body.on('error', () => undefined).destroy()
    return 'same'
  }
  if (answer.status !== 200) throw unusable(answer)
  try {
    const etag = answer.headers.etag
    return { ...(await blobs.put(answer.body, { maxBytes })), etag: typeof etag === 'string' ? etag : undefined }
  } catch (error) {
    answer.body.on('error', () => undefined).destroy()
    if (error instanceof HttpError || error instanceof BlobTooLargeError) throw error
    throw new WorkerCallError('reset', 'the file broke off', { cause: error })
  }
}

/** Undefined on 404. */
async function ask(
  worker: Worker,
  file: UploadName,
  headers: Record<string, string>,
  options: { signal?: AbortSignal },
): Promise<StreamedAnswer | undefined> {
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder, type: file.type })
  const answer = await worker.client.stream(
    { method: 'GET', path: `/view?${query}`, headers: { ...headers, 'accept-encoding': 'identity' } },
    options,
  )
  if (answer.status !== 404) return answer
  answer.body.on('error', () => undefined).destroy()
  return undefined
}

function unusable(answer: StreamedAnswer): WorkerCallError {
  answer.body.on('error', () => undefined).destroy()
  return new WorkerCallError('protocol', `GET /view answered ${answer.status}`, { status: answer.status })
}

async function readAnswer(answer: StreamedAnswer, route: string): Promise<UploadName> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > MAX_ANSWER_BYTES) throw new WorkerCallError('protocol', `POST ${route} answered too much`)
      chunks.push(chunk)
    }
  } catch (error) {
    throw error instanceof WorkerCallError
      ? error
      : new WorkerCallError('reset', 'the answer broke off', { cause: error })
  }
  if (answer.status !== 200) {
    throw new WorkerCallError('protocol', `POST ${route} answered ${answer.status}`, { status: answer.status })
  }
  const given = readName(Buffer.concat(chunks).toString('utf8'))
  if (!given) throw new WorkerCallError('protocol', `POST ${route} did not answer a name`)
  return given
}

function readName(text: string): UploadName | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return undefined
    const { name, subfolder = '', type = 'input' } = value as Partial<Record<string, unknown>>
    if (typeof name !== 'string' || typeof subfolder !== 'string' || typeof type !== 'string') return undefined
    return isUploadArea(type) ? { type, subfolder, filename: name } : undefined
  } catch {
    return undefined
  }
}

/** As browsers write it. */
const quoted = (filename: string): string =>
  filename.replaceAll('"', '%22').replaceAll('\r', '%0D').replaceAll('\n', '%0A')
