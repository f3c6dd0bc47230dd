import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { OpenBlob } from '../../files/blobs/blobs.ts'
import { mediaTypeOf } from '../../files/media-types.ts'
import { viewHeaders } from './view-headers.ts'

/** Answers `GET /view` and HEAD with a file that the gateway has, as ComfyUI answers: ETag, Range, conditions. */
export function sendBlob(request: FastifyRequest, reply: FastifyReply, blob: OpenBlob, filename: string): FastifyReply {
  const etag = `"${blob.hash.slice(0, 32)}"`
  // In whole seconds, as the header tells it.
  const modifiedMs = Math.floor(blob.putAt / 1_000) * 1_000
  const file = {
    'content-type': mediaTypeOf(filename),
    'content-disposition': dispositionOf(filename),
    etag,
    'last-modified': new Date(modifiedMs).toUTCString(),
  }
  const dest = request.headers['sec-fetch-dest']
  const answer = (status: number, headers: Record<string, string>): FastifyReply =>
    reply.code(status).headers(viewHeaders({ status, headers }, { filename, dest: first(dest) }))
  const { headers } = request

  if (isKnown(headers['if-none-match'], headers['if-modified-since'], etag, modifiedMs)) return answer(304, file).send()
  const range = wantedRange(headers.range, first(headers['if-range']), blob.size, etag, modifiedMs)
  if (range === 'unsatisfiable') {
    return answer(416, { 'content-range': `bytes */${blob.size}`, 'content-length': '0' }).send()
  }
  const { start, end } = range ?? { start: 0, end: blob.size - 1 }
  const body = {
    ...file,
    'accept-ranges': 'bytes',
    'content-length': String(end - start + 1),
    ...(range ? { 'content-range': `bytes ${start}-${end}/${blob.size}` } : {}),
  }
  answer(range ? 206 : 200, body)
  // Fastify reads the (empty) stream of an answer to HEAD; without one it would set a length of 0.
  const isEmpty = request.method === 'HEAD' || blob.size === 0
  return reply.send(isEmpty ? Readable.from([]) : blob.stream({ start, end }))
}

const first = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value)

/** As ComfyUI says it, without a word about showing or saving. */
export const dispositionOf = (filename: string): string => `filename="${filename.replace(/["\\]/g, '\\$&')}"`

function isKnown(
  noneMatch: string | undefined,
  modifiedSince: string | undefined,
  etag: string,
  modifiedMs: number,
): boolean {
  if (noneMatch !== undefined) {
    const known = noneMatch.split(',').map((tag) => tag.trim().replace(/^W\//, ''))
    return known.includes('*') || known.includes(etag)
  }
  const since = modifiedSince === undefined ? Number.NaN : Date.parse(modifiedSince)
  return since >= modifiedMs
}

/** The one range that is asked for; undefined: the whole file. Several at once are answered with the whole file. */
function wantedRange(
  range: string | undefined,
  ifRange: string | undefined,
  size: number,
  etag: string,
  modifiedMs: number,
): { start: number; end: number } | 'unsatisfiable' | undefined {
  const found = /^bytes=(\d*)-(\d*)$/.exec(range?.trim() ?? '')
  if (!found) return undefined
  if (ifRange !== undefined && ifRange !== etag && Date.parse(ifRange) !== modifiedMs) return undefined
  const [, from = '', to = ''] = found
  if (from === '' && to === '') return undefined
  const start = from === '' ? Math.max(0, size - Number(to)) : Number(from)
  const end = from === '' || to === '' ? size - 1 : Math.min(size - 1, Number(to))
  if (start >= size || (from !== '' && to !== '' && Number(to) < start)) return 'unsatisfiable'
  return { start, end }
}
