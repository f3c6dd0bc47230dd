import type { StreamedAnswer } from '../../comfyui/client.ts'
import { headersFromWorker } from './forward.ts'

/** Headers of a file from a worker, made safe to open in a browser: files are whatever somebody's graph has made. */

const PASSED = [
  'accept-ranges',
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'etag',
  'last-modified',
  'vary',
]

/** Pictures without scripts. Sound and film are inert, too. */
const INERT_PICTURES = new Set([
  'png',
  'jpeg',
  'gif',
  'webp',
  'avif',
  'bmp',
  'x-ms-bmp',
  'apng',
  'tiff',
  'vnd.microsoft.icon',
])
/** Texts that browsers show as they are when they may not guess. */
const INERT_TEXTS = new Set(['text/plain', 'application/json', 'text/csv'])
/** Bytes that browsers do not open. */
const OPAQUE = /^(application\/octet-stream|model\/|font\/)/
const SANDBOX = "sandbox; default-src 'none'"

/**
 * `dest`: the client's `Sec-Fetch-Dest`; an SVG is a picture only where it is shown as one. `filename` names what is to
 * be saved instead of opened.
 */
export function viewHeaders(
  answer: Pick<StreamedAnswer, 'status' | 'headers'>,
  { filename, dest }: { filename: string; dest: string | undefined },
): Record<string, string | string[]> {
  const given = headersFromWorker(answer.headers)
  const headers: Record<string, string | string[]> = { 'x-content-type-options': 'nosniff' }
  for (const name of PASSED) {
    const value = given[name]
    if (value !== undefined) headers[name] = value
  }
  const type = String(headers['content-type'] ?? '')
    .split(';', 1)[0]
    ?.trim()
    .toLowerCase()
  if (answer.status >= 400 && headers['content-length'] === '0') return headers
  if (isMedia(type ?? '')) return headers
  headers['content-security-policy'] = SANDBOX
  if (INERT_TEXTS.has(type ?? '')) return headers
  if (type === 'image/svg+xml') {
    headers.vary = 'Sec-Fetch-Dest'
    headers['cache-control'] = 'no-store'
    if (dest === 'image') return headers
  }
  if (OPAQUE.test(type ?? '')) return headers
  headers['content-type'] = 'application/octet-stream'
  headers['content-disposition'] = attachment(filename)
  headers['cache-control'] = 'no-store'
  headers.vary = 'Sec-Fetch-Dest'
  return headers
}

function isMedia(type: string): boolean {
  if (/^(video|audio)\/[\w.+-]+$/.test(type)) return true
  return type.startsWith('image/') && INERT_PICTURES.has(type.slice('image/'.length))
}

function attachment(filename: string): string {
  const plain = filename.replace(/[^\w. ()-]/g, '_')
  const encoded = encodeURIComponent(Buffer.from(filename).toString()).replace(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16)}`,
  )
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`
}
