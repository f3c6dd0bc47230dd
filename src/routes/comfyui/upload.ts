import multipart from '@fastify/multipart'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { quotePython } from '../../comfyui/python-json.ts'
import { BodyTooLargeError, HttpError } from '../../errors.ts'
import { type BlobStore, BlobTooLargeError, type StoredBlob } from '../../files/blobs/blobs.ts'
import type { WantedFile } from '../../files/locate.ts'
import type { PixelWork } from '../../files/pixel-work.ts'
import { isUploadArea, placeOf, type UploadArea } from '../../files/uploads/upload-name.ts'
import type { Uploads } from '../../files/uploads/uploads.ts'
import { serverError } from '../../queue/submitted-body.ts'
import { sendEmpty } from './comfy-request.ts'

export interface UploadRoutesOptions {
  blobs: BlobStore
  uploads: Uploads
  pixels: Pick<PixelWork, 'mergeMask'>
  /** Bytes of the largest body. */
  maxBodyBytes: number
}

/** What the form of an upload says. */
interface Form {
  /** `text`: the field is there, but no file. */
  image: { filename: string; blob: StoredBlob } | 'text' | 'none'
  fields: ReadonlyMap<string, string>
}

/** An upload whose fields are in order. */
interface Wanted {
  name: { type: UploadArea; subfolder: string; filename: string }
  blob: StoredBlob
  overwrite: boolean
}

/** More than any form of ComfyUI's clients has. */
const LIMITS = { files: 10, fields: 100, parts: 110, fieldNameSize: 1_000, fieldSize: 1024 * 1024 }

/** `POST /upload/image` and `/upload/mask`: the bytes go to disk as they come, under the names that ComfyUI would give. */
export function uploadRoutes({ blobs, uploads, pixels, maxBodyBytes }: UploadRoutesOptions): FastifyPluginAsync {
  return async (app) => {
    await app.register(multipart, { limits: { ...LIMITS, fileSize: maxBodyBytes }, preservePath: true })
    // Any other body has no file in it and is not read.
    app.removeContentTypeParser('*')
    app.addContentTypeParser('*', (_request, payload, done) => {
      payload.resume()
      done(null, undefined)
    })

    app.post('/upload/image', { schema: { hide: true } }, async (request, reply) => {
      const wanted = await readUpload(request, reply)
      if (wanted === undefined) return reply
      const { name, blob, overwrite } = wanted
      const filename = await uploads.add(request.identity, name, blob, { overwrite })
      return sendName(reply, { ...name, filename })
    })

    app.post('/upload/mask', { schema: { hide: true } }, async (request, reply) => {
      const wanted = await readUpload(request, reply)
      if (wanted === undefined) return reply
      const { name, blob, overwrite, fields } = wanted
      const { owner } = request.identity
      const found = await uploads.nameFor(owner, name, { overwrite, compared: blob.hash })
      if (found.isThere) return sendName(reply, { ...name, filename: found.filename })
      const original = readOriginal(fields.get('original_ref'), owner)
      const mask = original && (await blobs.open(blob.hash))
      // Without its picture ComfyUI writes nothing and says 200 all the same.
      if (!mask) return sendName(reply, { ...name, filename: found.filename })
      const result = await pixels.mergeMask(original, mask, found.filename)
      if (result.kind === 'refused') {
        if (result.status === 500) throw serverError()
        return sendEmpty(reply, result.status)
      }
      if (result.kind === 'nothing') return sendName(reply, { ...name, filename: found.filename })
      const filename = await uploads.add(request.identity, name, result.blob, { overwrite, compared: blob.hash })
      return sendName(reply, { ...name, filename })
    })
  }

  /** Undefined when it was answered already. The checks and their order are ComfyUI's. */
  async function readUpload(
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<(Wanted & { fields: Form['fields'] }) | undefined> {
    const form = await readForm(request, reply)
    if (!form) return undefined
    const { image, fields } = form
    const type = fields.get('type') ?? 'input'
    if (!isUploadArea(type) || image === 'text') throw serverError()
    if (image === 'none') {
      sendEmpty(reply, 400)
      return undefined
    }
    const subfolder = fields.get('subfolder') ?? ''
    const place = placeOf(type, subfolder, image.filename)
    if ('problem' in place) {
      if (place.problem === 'unwritable') throw serverError()
      sendEmpty(reply, 400)
      return undefined
    }
    const overwrite = fields.get('overwrite')
    return {
      name: { type, subfolder, filename: image.filename },
      blob: image.blob,
      overwrite: overwrite === 'true' || overwrite === '1',
      fields,
    }
  }

  /** Undefined when the client has gone. Of repeated fields the first counts. */
  async function readForm(request: FastifyRequest, reply: FastifyReply): Promise<Form | undefined> {
    const fields = new Map<string, string>()
    let image: Form['image'] = 'none'
    if (Number(request.headers['content-length']) > maxBodyBytes) throw new BodyTooLargeError(maxBodyBytes)
    if (!request.isMultipart()) return { image, fields }
    try {
      for await (const part of request.parts()) {
        if (part.type === 'field') {
          const value = typeof part.value === 'string' ? part.value : JSON.stringify(part.value)
          if (part.fieldname === 'image' && image === 'none' && value !== '') image = 'text'
          if (!fields.has(part.fieldname)) fields.set(part.fieldname, value)
        } else if (part.fieldname === 'image' && image === 'none' && part.filename) {
          const blob = await blobs.put(part.file, { maxBytes: maxBodyBytes })
          if (part.file.truncated) throw new BodyTooLargeError(maxBodyBytes)
          image = { filename: part.filename, blob }
        } else {
          if (part.fieldname === 'image' && image === 'none' && part.filename === undefined) image = 'text'
          for await (const _ of part.file);
        }
      }
      return { image, fields }
    } catch (error) {
      if (request.raw.destroyed && !request.raw.complete) {
        reply.hijack()
        return undefined
      }
      // The rest is read and dropped, so that the client gets to read the answer.
      request.raw.unpipe()
      request.raw.resume()
      throw formError(error)
    }
  }

  function formError(error: unknown): Error {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (error instanceof BlobTooLargeError || code === 'FST_REQ_FILE_TOO_LARGE') {
      return new BodyTooLargeError(maxBodyBytes)
    }
    // A form that cannot be read is an exception in ComfyUI, too.
    return error instanceof HttpError ? error : serverError()
  }
}

function sendName(reply: FastifyReply, name: { type: UploadArea; subfolder: string; filename: string }): FastifyReply {
  return reply
    .type('application/json; charset=utf-8')
    .send(
      `{"name": ${quotePython(name.filename)}, "subfolder": ${quotePython(name.subfolder)}, "type": "${name.type}"}`,
    )
}

/**
 * The picture a mask belongs to, in the clients' namespace; undefined when it names none that may be read. Throws
 * ComfyUI's plain 500 for what it cannot read either.
 */
function readOriginal(text: string | undefined, owner: string): WantedFile | undefined {
  const ref = parseObject(text)
  const filename = ref.filename
  if (typeof filename !== 'string') throw serverError()
  const found = /^(.*).\[(input|temp|output)\]$/s.exec(filename)
  const bare = found?.[1] ?? filename
  const type = found?.[2] ?? (ref.type === undefined ? 'output' : ref.type)
  const subfolder = typeof ref.subfolder === 'string' ? ref.subfolder : ''
  if (typeof type !== 'string' || !isUploadArea(type) || bare === '' || bare.includes('..')) return undefined
  const place = placeOf(type, subfolder, bare)
  return 'problem' in place ? undefined : { ...place, owner, promptId: undefined }
}

function parseObject(text: string | undefined): Partial<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text ?? '')
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // As what follows.
  }
  throw serverError()
}
