import { dumpPyJson, type PyDumpable } from './py-json.ts'

/** A request as routes see it: the path without prefix and query. */
export interface RouteRequest {
  method: string
  path: string
  query: URLSearchParams
  headers: Readonly<Record<string, string | string[] | undefined>>
  body: Buffer
}

/** What a route gives back. A body of undefined with `isChunked` is an empty chunked body, as aiohttp's 404 has it. */
export interface Answer {
  status: number
  headers: Record<string, string>
  body: Buffer
  isChunked?: boolean
}

const TEXT = 'text/plain; charset=utf-8'

export const json = (value: PyDumpable, status = 200): Answer => jsonText(dumpPyJson(value), status)

export function jsonText(text: string, status = 200): Answer {
  return withBody(status, 'application/json; charset=utf-8', Buffer.from(text))
}

export const text = (status: number, body: string): Answer => withBody(status, TEXT, Buffer.from(body))

/** No body and no content type. */
export const empty = (status = 200): Answer => ({
  status,
  headers: status === 204 ? {} : { 'content-length': '0' },
  body: Buffer.alloc(0),
})

/** What an exception in a handler gives. */
export function serverError(): Answer {
  const answer = text(500, '500 Internal Server Error\n\nServer got itself in trouble')
  answer.headers.connection = 'close'
  return answer
}

export function notFound(path: string): Answer {
  const headers: Record<string, string> = { 'content-type': 'application/octet-stream' }
  if (/\.(js|css|json)$/.test(path)) headers['cache-control'] = 'no-cache'
  return { status: 404, headers, body: Buffer.alloc(0), isChunked: true }
}

/** ComfyUI serves files at `/`, so every unknown path exists for GET and HEAD as far as other methods can tell. */
export function methodNotAllowed(): Answer {
  const answer = text(405, '405: Method Not Allowed')
  answer.headers.allow = 'GET,HEAD'
  return answer
}

export function withBody(status: number, contentType: string, body: Buffer): Answer {
  return { status, headers: { 'content-type': contentType, 'content-length': String(body.length) }, body }
}
