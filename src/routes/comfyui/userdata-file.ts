import type { FileHandle } from 'node:fs/promises'
import { extname } from 'node:path'
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { UserFileInfo } from '../../userdata/user-files.ts'

/** Types that a browser shows without running anything in them; the rest is bytes to be saved. */
const TYPES: Readonly<Record<string, string>> = {
  '.json': 'application/json',
  '.txt': 'text/plain',
  '.csv': 'text/csv',
  '.md': 'text/markdown',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.gif': 'image/gif',
  '.webp': 'image/webp',
  '.mp4': 'video/mp4',
  '.webm': 'video/webm',
  '.mp3': 'audio/mpeg',
  '.wav': 'audio/x-wav',
}
/** The one file that a front end applies as it is. */
const USER_CSS = 'user.css'

/**
 * Answers with a user's file: whole, a range of it, or 304. Whatever is in it was put there by somebody, so browsers save
 * it instead of opening it, as with ComfyUI's releases of 2026. Closes the file.
 */
export async function sendUserFile(
  request: Pick<FastifyRequest, 'method' | 'headers'>,
  reply: FastifyReply,
  { info, handle }: { info: UserFileInfo; handle: FileHandle },
): Promise<FastifyReply> {
  const { sizeBytes, modifiedNs } = info
  const etag = `"${modifiedNs.toString(16)}-${sizeBytes.toString(16)}"`
  // A header has whole seconds; rounded up, so that it is never before the change.
  const modifiedS = Math.ceil(Number(modifiedNs / 1_000_000n) / 1_000)
  reply
    .header('etag', etag)
    .header('last-modified', new Date(modifiedS * 1_000).toUTCString())
    .header('accept-ranges', 'bytes')
    .header('x-content-type-options', 'nosniff')
  if (isKnown(request.headers, etag, modifiedS)) {
    await handle.close()
    return reply.code(304).send()
  }
  if (info.path === USER_CSS) reply.header('content-type', 'text/css').header('cache-control', 'no-cache')
  else {
    reply
      .header('content-type', TYPES[extname(info.path).toLowerCase()] ?? 'application/octet-stream')
      .header('content-disposition', 'attachment')
  }
  const range = rangeOf(request.headers, sizeBytes, etag)
  if (range === 'outside') {
    await handle.close()
    return reply.code(416).header('content-range', `bytes */${sizeBytes}`).send()
  }
  const { start, end } = range ?? { start: 0, end: sizeBytes - 1 }
  if (range) reply.code(206).header('content-range', `bytes ${start}-${end}/${sizeBytes}`)
  reply.header('content-length', String(end - start + 1))
  if (request.method !== 'HEAD' && end >= start) return reply.send(handle.createReadStream({ start, end }))
  await handle.close()
  return reply.send(Readable.from([]))
}

function isKnown(headers: FastifyRequest['headers'], etag: string, modifiedS: number): boolean {
  const known = headers['if-none-match']
  if (known !== undefined) {
    return known.split(',').some((each) => each.trim() === '*' || each.trim().replace(/^W\//, '') === etag)
  }
  const since = Date.parse(headers['if-modified-since'] ?? '')
  return modifiedS * 1_000 <= since
}

/** The one range that is asked for, ends included; undefined for the whole file. */
function rangeOf(
  { range, 'if-range': ifRange }: FastifyRequest['headers'],
  sizeBytes: number,
  etag: string,
): { start: number; end: number } | 'outside' | undefined {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(range ?? '') ?? []
  if (from === undefined || to === undefined || from + to === '') return undefined
  if (ifRange !== undefined && ifRange !== etag) return undefined
  if (from === '') {
    return Number(to) === 0 ? 'outside' : { start: Math.max(0, sizeBytes - Number(to)), end: sizeBytes - 1 }
  }
  const start = Number(from)
  const end = to === '' ? sizeBytes - 1 : Math.min(Number(to), sizeBytes - 1)
  if (to !== '' && Number(to) < start) return undefined
  return start >= sizeBytes ? 'outside' : { start, end }
}
