import { Readable } from 'node:stream'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { type StreamedAnswer, WorkerCallError } from '../../comfyui/client.ts'
import { BodyTooLargeError, HttpError, NoWorkerError } from '../../errors.ts'
import { type BlobStore, BlobTooLargeError, type OpenBlob } from '../../files/blobs/blobs.ts'
import type { HeldImages } from '../../files/images/held-images.ts'
import { MAX_ID_LENGTH } from '../../files/images/image-ids.ts'
import type { ResultImages } from '../../files/images/result-images.ts'
import type { WorkerRegistry } from '../../workers/registry.ts'
import type { UiWorker } from '../../workers/ui-worker.ts'
import type { Worker } from '../../workers/worker.ts'
import { notFound } from '../pages.ts'
import { askWorker, discard, headersFromWorker, headersToWorker, sendAnswer } from './forward.ts'
import { SANDBOX, targetOf } from './pass-through.ts'

export interface ToolingRoutesOptions {
  images: Pick<HeldImages, 'put' | 'find'>
  results: Pick<ResultImages, 'workerOf'>
  blobs: Pick<BlobStore, 'put' | 'open'>
  registry: Pick<WorkerRegistry, 'list'>
  uiWorker: Pick<UiWorker, 'current'>
  /** Bytes of the largest picture. */
  maxBodyBytes: number
}

/** Reading the heads of many large models, or translating, may take a worker a while. */
const ANSWER_TIMEOUT_MS = 300_000
const PICTURES = /^image\/(avif|bmp|gif|jpeg|png|tiff|webp)$/i
/** What comes from clients and workers must not act as a page of the gateway's. */
const HARMLESS = { 'x-content-type-options': 'nosniff', 'content-security-policy': SANDBOX }
const NO_IMAGE = '{"error": "Image not found"}'
const JSON_TYPE = 'application/json; charset=utf-8'

/**
 * The routes under `/api/etn` that Krita uses: pictures on their way in and out that are no files, and what models and
 * languages there are. The rest of that node pack's routes goes to a worker like any custom node's.
 */
export function toolingRoutes(options: ToolingRoutesOptions): FastifyPluginAsync {
  const { images, results, blobs, registry, uiWorker, maxBodyBytes } = options
  type ImageRoute = { Params: { id: string } }

  return async (app) => {
    const hidden = { schema: { hide: true } }
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
    app.put<ImageRoute>('/api/etn/image/:id', hidden, putImage)
    app.get<ImageRoute>('/api/etn/image/:id', hidden, getImage)
    for (const path of ['model_info', 'model_info/:folder', 'languages', 'translate/*']) {
      app.get(`/api/etn/${path}`, hidden, askAny)
    }
  }

  async function putImage(request: FastifyRequest<ImageRoute>, reply: FastifyReply): Promise<FastifyReply> {
    const { id } = request.params
    if (id === '' || id.length > MAX_ID_LENGTH) {
      throw new HttpError(400, 'bad_image_id', `The id of an image has 1 to ${MAX_ID_LENGTH} characters`)
    }
    if (Number(request.headers['content-length']) > maxBodyBytes) throw new BodyTooLargeError(maxBodyBytes)
    const body = request.body instanceof Readable ? request.body : Readable.from([])
    try {
      const blob = await blobs.put(body, { maxBytes: maxBodyBytes })
      const contentType = request.headers['content-type'] ?? 'application/octet-stream'
      const put = await images.put(request.identity.owner, id, blob, contentType)
      return reply
        .code(put === 'new' ? 201 : 200)
        .type(JSON_TYPE)
        .send(`{"status": "${put === 'new' ? 'success' : 'cached'}"}`)
    } catch (error) {
      if (request.raw.destroyed && !request.raw.complete) return reply.hijack()
      // The rest is read and dropped, so that the client gets to read the answer.
      request.raw.resume()
      throw error instanceof BlobTooLargeError ? new BodyTooLargeError(maxBodyBytes) : error
    }
  }

  async function getImage(request: FastifyRequest<ImageRoute>, reply: FastifyReply): Promise<FastifyReply> {
    const { id } = request.params
    const { owner } = request.identity
    const held = await images.find(owner, id)
    const blob = held && (await blobs.open(held.hash))
    if (held && blob) return sendHeld(request, reply, blob, held.contentType)
    const worker = await results.workerOf(owner, id)
    if (!worker) return reply.code(404).type(JSON_TYPE).send(NO_IMAGE)
    try {
      return pass(reply, await ask(worker, request, reply))
    } catch (error) {
      // Nobody is there to be answered.
      if (error instanceof WorkerCallError && error.fault === 'aborted') return reply.hijack()
      throw error
    }
  }

  /** One that knows the route: the worker of the editor's files before all others. */
  async function askAny(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const shown = await uiWorker.current()
    const healthy = registry.list().filter(({ state }) => state.kind === 'healthy')
    const workers = shown ? [shown, ...healthy.filter((worker) => worker !== shown)] : healthy
    if (workers.length === 0) throw new NoWorkerError()
    let failure: unknown
    for (const worker of workers) {
      try {
        const answer = await ask(worker, request, reply)
        if (answer.status !== 404) return pass(reply, answer)
        discard(answer)
      } catch (error) {
        if (!(error instanceof WorkerCallError)) throw error
        if (error.fault === 'aborted') return reply.hijack()
        failure = error
      }
    }
    if (failure !== undefined) throw failure
    return notFound(request, reply)
  }
}

function ask(worker: Worker, request: FastifyRequest, reply: FastifyReply): Promise<StreamedAnswer> {
  const call = {
    method: request.method,
    path: targetOf(request),
    headers: headersToWorker(request.headers),
    timeoutMs: ANSWER_TIMEOUT_MS,
    isCustom: true,
  }
  return askWorker(worker, call, reply)
}

const pass = (reply: FastifyReply, answer: StreamedAnswer): FastifyReply =>
  sendAnswer(reply, answer, { ...headersFromWorker(answer.headers), ...HARMLESS })

function sendHeld(request: FastifyRequest, reply: FastifyReply, blob: OpenBlob, contentType: string): FastifyReply {
  reply
    .type(PICTURES.test(contentType) ? contentType : 'application/octet-stream')
    .headers({ ...HARMLESS, 'content-length': String(blob.size) })
  // Fastify reads the (empty) stream of an answer to HEAD; without one it would set a length of 0.
  return reply.send(request.method === 'HEAD' ? Readable.from([]) : blob.stream())
}
