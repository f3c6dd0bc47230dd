import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { dumpsPython, pythonFloat, RawJson } from '../../comfyui/python-json.ts'
import { ComfyAnswer, JSON_TYPE, serverError } from '../../queue/submitted-body.ts'
import type { UserData } from '../../userdata/user-data.ts'
import { BadFileNameError, type UserFileInfo } from '../../userdata/user-files.ts'
import { pathOfName } from '../../userdata/user-path.ts'
import { notFound } from '../pages.ts'
import { queryValue, sendEmpty } from './comfy-request.ts'
import { sendUserFile } from './userdata-file.ts'
import { guardUsers } from './users.ts'
import { isRecentRelease } from './worker-style.ts'

export interface UserdataRoutesOptions {
  userData: UserData
  /** The version of the UI worker: what tells the units of times. */
  comfyVersion: () => Promise<string | undefined>
}

type WithFile = { Params: { file: string } }
type WithDest = { Params: { file: string; dest: string } }

const TEXT_TYPE = 'text/plain; charset=utf-8'
const BAD_NAME_REASON = 'Invalid filename. Please avoid special characters like :\\/*?"<>|'

/**
 * `/userdata` and `/v2/userdata`: the files of ComfyUI's front end, kept by the gateway for each owner. A file is one
 * segment of the path with its slashes escaped; real ones do not match.
 */
export function userdataRoutes({ userData, comfyVersion }: UserdataRoutesOptions): FastifyPluginAsync {
  const { files, imports } = userData

  /** Size and times as the front end of the UI worker reads them. */
  async function infoWriter(): Promise<(info: UserFileInfo, path: string) => object> {
    const isRecent = isRecentRelease(await comfyVersion())
    const time = (ns: bigint): RawJson => new RawJson(isRecent ? String(ns / 1_000_000n) : secondsText(ns))
    return ({ sizeBytes, modifiedNs, createdNs }, path) => ({
      path,
      size: sizeBytes,
      modified: time(modifiedNs),
      created: time(createdNs),
    })
  }

  async function sendWritten(
    request: FastifyRequest,
    reply: FastifyReply,
    path: string,
    owner: string,
  ): Promise<FastifyReply> {
    reply.type(JSON_TYPE)
    if (!isTrue(request, 'full_info')) return reply.send(dumpsPython(path))
    const entry = await files.stat(owner, path)
    if (!entry) throw serverError() // Taken away in this moment.
    return reply.send(dumpsPython((await infoWriter())(entry, path)))
  }

  return async (app) => {
    guardUsers(app, ['/userdata', '/v2/userdata'])

    app.get('/userdata', { schema: { hide: true } }, async (request, reply) => {
      const { owner } = request.identity
      const dir = queryValue(request, 'dir') ?? ''
      if (dir === '') throw plainText(400, 'Directory not provided')
      const path = pathOfName(dir)
      if (path === undefined) throw plainText(403, 'Invalid directory')
      await imports.filesReady(owner)
      if (!(await files.stat(owner, path))) throw plainText(404, 'Directory not found')
      const entries = await files.list(owner, path, { recurse: isTrue(request, 'recurse'), hidden: false })
      const fullInfo = await infoWriter()
      const asked = { fullInfo: isTrue(request, 'full_info'), split: isTrue(request, 'split') }
      const listed = entries
        .filter(({ kind }) => kind === 'file')
        .map((entry) => {
          const name = path === '' ? entry.path : entry.path.slice(path.length + 1)
          if (asked.fullInfo) return fullInfo(entry, name)
          return asked.split ? [name, ...name.split('/')] : name
        })
      reply.type(JSON_TYPE)
      return dumpsPython(listed)
    })

    app.get('/v2/userdata', { schema: { hide: true } }, async (request, reply) => {
      const { owner } = request.identity
      const path = pathOfName(queryValue(request, 'path') ?? '')
      if (path === undefined) throw plainText(400, 'Invalid path requested')
      await imports.filesReady(owner)
      const folder = await files.stat(owner, path)
      if (!folder && path !== '') throw plainText(404, 'Requested path not found')
      if (folder?.kind === 'file') throw plainText(400, 'Requested path is not a directory')
      const entries = await files.list(owner, path, { recurse: true, hidden: true })
      const sortKey = ({ kind, name }: (typeof entries)[number]): string =>
        `${kind === 'folder' ? 0 : 1}${name.toLowerCase()}`
      const listed = entries
        .toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : sortKey(a) > sortKey(b) ? 1 : 0))
        .map(({ kind, name, path, sizeBytes, modifiedNs }) =>
          kind === 'folder'
            ? { name, path, type: 'directory' }
            : // Seconds in every release.
              { name, path, type: 'file', size: sizeBytes, modified: new RawJson(secondsText(modifiedNs)) },
        )
      reply.type(JSON_TYPE)
      return dumpsPython(listed)
    })

    app.get<WithFile>('/userdata/:file', { schema: { hide: true } }, async (request, reply) => {
      if (request.params.file === '') return notFound(request, reply)
      const { owner } = request.identity
      const path = pathOfName(request.params.file)
      if (path === undefined) return sendEmpty(reply, 403)
      await imports.filesReady(owner)
      const opened = await files.open(owner, path)
      if (!opened) return sendEmpty(reply, 404)
      return opened.kind === 'file' ? sendUserFile(request, reply, opened) : sendEmpty(reply, 403)
    })

    app.post<WithFile>('/userdata/:file', { schema: { hide: true } }, async (request, reply) => {
      const { owner } = request.identity
      const path = pathOfName(request.params.file)
      if (path === undefined) return sendEmpty(reply, 403)
      const bytes = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
      const overwrite = queryValue(request, 'overwrite') !== 'false'
      if (!overwrite) await imports.filesReady(owner)
      try {
        if (!(await files.write(owner, path, bytes, { overwrite }))) throw plainText(409, 'File already exists')
      } catch (error) {
        if (!(error instanceof BadFileNameError)) throw error
        reply.raw.statusMessage = BAD_NAME_REASON
        return sendEmpty(reply, 400)
      }
      return sendWritten(request, reply, path, owner)
    })

    app.delete<WithFile>('/userdata/:file', { schema: { hide: true } }, async (request, reply) => {
      const { owner } = request.identity
      const path = pathOfName(request.params.file)
      if (path === undefined) return sendEmpty(reply, 403)
      await imports.filesReady(owner)
      const isRemoved = await files.remove(owner, path).catch(asServerError)
      if (isRemoved) imports.removed(owner, path)
      return sendEmpty(reply, isRemoved ? 204 : 404)
    })

    app.post<WithDest>('/userdata/:file/move/:dest', { schema: { hide: true } }, async (request, reply) => {
      const { owner } = request.identity
      const [from, to] = [pathOfName(request.params.file), pathOfName(request.params.dest)]
      if (from === undefined) return sendEmpty(reply, 403)
      await imports.filesReady(owner)
      if (!(await files.stat(owner, from))) return sendEmpty(reply, 404)
      if (to === undefined) return sendEmpty(reply, 403)
      const overwrite = queryValue(request, 'overwrite') !== 'false'
      const result = await files.move(owner, from, to, { overwrite }).catch(asServerError)
      if (result === 'exists') throw plainText(409, 'File already exists')
      if (result === 'missing') return sendEmpty(reply, 404)
      imports.removed(owner, from)
      return sendWritten(request, reply, to, owner)
    })
  }
}

const plainText = (status: number, text: string): ComfyAnswer => new ComfyAnswer(status, TEXT_TYPE, text)

/** A name that no file can have is an error that ComfyUI does not handle when it removes or moves. */
function asServerError(error: unknown): never {
  throw error instanceof BadFileNameError ? serverError() : error
}

const isTrue = (request: FastifyRequest, name: string): boolean => queryValue(request, name)?.toLowerCase() === 'true'

/** Python's `st_mtime`. */
const secondsText = (ns: bigint): string =>
  pythonFloat(Number(ns / 1_000_000_000n) + 1e-9 * Number(ns % 1_000_000_000n))
