import { posix } from 'node:path'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { type StreamedAnswer, WorkerCallError } from '../../comfyui/client.ts'
import { NoWorkerError } from '../../errors.ts'
import type { BlobStore, OpenBlob } from '../../files/blobs/blobs.ts'
import type { LocateFile, Place, WantedFile } from '../../files/locate.ts'
import { isPlainPath } from '../../files/names.ts'
import type { PixelWork } from '../../files/pixel-work.ts'
import type { WorkerRegistry } from '../../workers/registry.ts'
import { queryValue, sendEmpty } from './comfy-request.ts'
import { askWorker, discard, headersToWorker, sendAnswer } from './forward.ts'
import { dispositionOf, sendBlob } from './send-blob.ts'
import { viewHeaders } from './view-headers.ts'

export interface ViewRoutesOptions {
  locate: LocateFile
  registry: Pick<WorkerRegistry, 'get' | 'list'>
  /** What the gateway has itself. Without it `locate` must not name blobs. */
  kept?: { blobs: Pick<BlobStore, 'open'>; pixels: Pick<PixelWork, 'placed'> }
  /** Milliseconds for the search among the workers of a file that nothing is known of. */
  searchMs?: number
}

const SEARCH_MS = 10_000
/** Milliseconds one worker may take in that search. */
const SEARCH_STEP_MS = 3_000
/** Of the client's headers, those that say how it wants the file. */
const PASSED = [
  'accept',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'range',
  'sec-fetch-dest',
]
const FOUND = new Set([200, 206, 304, 412, 416])

/** `GET /view`: the bytes of a file, from the worker that has it. */
export function viewRoutes({ locate, registry, kept, searchMs = SEARCH_MS }: ViewRoutesOptions): FastifyPluginAsync {
  return async (app) => {
    app.get('/view', { schema: { hide: true } }, async (request, reply) => {
      const wanted = readWanted(request)
      if (typeof wanted === 'number') return sendEmpty(reply, wanted)
      try {
        const { place, blob } = await find(wanted, request)
        if (blob && !wantsPixels(request)) return sendBlob(request, reply, blob, wanted.filename)
        const answer = blob ? await openPixels(blob, wanted, request, reply) : await open(place, wanted, request, reply)
        if (!answer) return sendEmpty(reply, 404)
        const dest = request.headers['sec-fetch-dest']
        return sendAnswer(
          reply,
          answer,
          viewHeaders(answer, { filename: wanted.filename, dest: Array.isArray(dest) ? dest[0] : dest }),
        )
      } catch (error) {
        // Nobody is there to be answered, and no worker is to blame.
        if (error instanceof WorkerCallError && error.fault === 'aborted') return reply.hijack()
        throw error
      }
    })
  }

  /** Where it is now, with the blob when the gateway has it and nobody else is asked for it. */
  async function find(wanted: WantedFile, request: FastifyRequest): Promise<{ place: Place; blob?: OpenBlob }> {
    const place = await locate(wanted)
    if (place.kind !== 'blob') return { place }
    const blob = await kept?.blobs.open(place.hash)
    if (!blob) return { place: await place.orElse() }
    if (!wantsPixels(request)) return { place, blob }
    // The worker that made it can do that without a copy.
    const origin = await place.orElse()
    const maker = origin.kind === 'worker' ? registry.get(origin.workerId) : undefined
    return maker?.state.kind === 'healthy' ? { place: origin } : { place, blob }
  }

  /** Its pixels in another form, by any worker. */
  async function openPixels(
    blob: OpenBlob,
    wanted: WantedFile,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<StreamedAnswer | undefined> {
    if (!kept) return undefined
    const { worker, file } = await kept.pixels.placed(blob, wanted.filename)
    const path = viewPath(request, { ...wanted, type: file.type, filename: file.filename }, file.subfolder)
    const answer = await askWorker(
      worker,
      { method: request.method, path, headers: viewRequestHeaders(request) },
      reply,
    )
    const disposition = answer.headers['content-disposition']
    if (disposition === undefined) return answer
    return { ...answer, headers: { ...answer.headers, 'content-disposition': dispositionOf(wanted.filename) } }
  }

  async function open(
    place: Place,
    wanted: WantedFile,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<StreamedAnswer | undefined> {
    if (place.kind === 'gone' || place.kind === 'blob') return undefined
    const ask = {
      method: request.method,
      path: viewPath(request, wanted, place.subfolder),
      headers: viewRequestHeaders(request),
    }
    if (place.kind === 'anywhere') return search(ask, reply)
    const worker = registry.get(place.workerId)
    return worker && askWorker(worker, ask, reply)
  }

  /** The first worker's that has it. Throws NoWorkerError when none is up, and a call's error when no worker answered. */
  async function search(
    ask: { method: string; path: string; headers: Record<string, string> },
    reply: FastifyReply,
  ): Promise<StreamedAnswer | undefined> {
    const workers = registry.list().filter(({ state }) => state.kind === 'healthy')
    if (workers.length === 0) throw new NoWorkerError()
    const until = performance.now() + searchMs
    let failure: unknown
    let answered = false
    for (const worker of workers) {
      const timeoutMs = Math.min(SEARCH_STEP_MS, until - performance.now())
      if (timeoutMs <= 0) break
      try {
        const answer = await askWorker(worker, { ...ask, timeoutMs }, reply)
        if (FOUND.has(answer.status)) return answer
        discard(answer)
        answered = true
      } catch (error) {
        if (error instanceof WorkerCallError && error.fault === 'aborted') throw error
        failure = error
      }
    }
    if (!answered && failure !== undefined) throw failure
    return undefined
  }
}

/** `preview` and `channel` ask for a picture that has to be made. */
const wantsPixels = (request: FastifyRequest): boolean =>
  queryValue(request, 'preview') !== undefined || (queryValue(request, 'channel') ?? 'rgba') !== 'rgba'

/** What is asked for, or the status with which ComfyUI refuses; its checks in its order. */
function readWanted(request: FastifyRequest): WantedFile | number {
  const given = queryValue(request, 'filename')
  if (given === undefined) return 404
  const { name, area } = splitAnnotation(given)
  if (name === '' || name.startsWith('/') || name.includes('..') || name.includes('\0')) return 400
  const type = area ?? queryValue(request, 'type') ?? 'output'
  if (type !== 'output' && type !== 'temp' && type !== 'input') return 400
  const subfolder = plainSubfolder(queryValue(request, 'subfolder') ?? '')
  if (subfolder === undefined) return 403
  const filename = posix.basename(name.endsWith('/') ? '' : name)
  if (filename === '' || filename === '.') return 404
  return {
    owner: request.identity.owner,
    type,
    subfolder,
    filename,
    promptId: queryValue(request, 'prompt_id') || undefined,
  }
}

/** ComfyUI cuts by the length of the tag and the blank before it, whatever that is. */
function splitAnnotation(name: string): { name: string; area: WantedFile['type'] | undefined } {
  for (const area of ['output', 'input', 'temp'] as const) {
    const tag = `[${area}]`
    if (name.endsWith(tag)) return { name: name.slice(0, -(tag.length + 1)), area }
  }
  return { name, area: undefined }
}

/** `/`-separated, without `.` and empty parts. Undefined when it leads out of its base. */
function plainSubfolder(given: string): string | undefined {
  const slashed = given.replaceAll('\\', '/')
  if (slashed.startsWith('/') || slashed.includes('\0')) return undefined
  const normal = posix.normalize(slashed).replace(/\/+$/, '')
  const plain = normal === '.' ? '' : normal
  return isPlainPath(plain) ? plain : undefined
}

function viewPath(request: FastifyRequest, { filename, type }: WantedFile, subfolder: string): string {
  const query = new URLSearchParams({ filename, subfolder, type })
  for (const name of ['preview', 'channel']) {
    const value = queryValue(request, name)
    if (value !== undefined) query.set(name, value)
  }
  return `/view?${query}`
}

function viewRequestHeaders({ headers }: FastifyRequest): Record<string, string> {
  const passed = headersToWorker(headers)
  return Object.fromEntries(
    Object.entries(passed).filter(([name]) => PASSED.includes(name) || name === 'accept-encoding'),
  )
}
