import { posix } from 'node:path'
import { type Answer, empty, json, type RouteRequest, serverError, withBody } from './answers.ts'
import { annotatedPath, type FileArea, isFileArea, type StoredFile, safeSubfolder } from './files.ts'
import { type FormPart, parseMultipart } from './multipart.ts'
import { encodePng, readPng } from './png.ts'
import { isPyObject, parsePyJson } from './py-json.ts'
import { TINY_JPEG, TINY_WEBP } from './tiny-pictures.ts'
import { is2026, type WorkerState } from './worker-state.ts'

const TYPES: Readonly<Record<string, string>> = {
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.webp': 'image/webp',
  '.gif': 'image/gif',
  '.mp4': 'video/mp4',
  '.wav': 'audio/x-wav',
  '.json': 'application/json',
  '.txt': 'text/plain',
}

/** `GET /view`. */
export function view(state: WorkerState, { query, headers }: RouteRequest): Answer {
  const asked = query.get('filename')
  if (asked === null) return empty(404)
  if (asked === '') return empty(400)
  const wantedArea = query.get('type') ?? 'output'
  const { area, path } = annotatedPath(asked, isFileArea(wantedArea) ? wantedArea : 'output')
  if (path.startsWith('/') || path.includes('..')) return empty(400)
  if (area === 'output' && path === asked && !isFileArea(wantedArea)) return empty(400)
  const subfolder = safeSubfolder(query.get('subfolder') ?? '')
  if (subfolder === undefined) return empty(403)
  const file = state.files.get(area, subfolder, posix.basename(path))
  if (!file) return empty(404)
  const disposition = `filename="${file.name}"`
  const converted = convert(file, query)
  if (converted) {
    converted.headers['content-disposition'] = disposition
    return converted
  }
  return rawFile(state, file, headers, disposition)
}

function rawFile(state: WorkerState, file: StoredFile, headers: RouteRequest['headers'], disposition: string): Answer {
  const type = TYPES[posix.extname(file.name).toLowerCase()] ?? 'application/octet-stream'
  const answer = withBody(200, type, file.bytes)
  answer.headers['content-disposition'] = disposition
  answer.headers.etag = file.etag
  answer.headers['last-modified'] = new Date(file.modifiedMs).toUTCString()
  if (is2026(state)) answer.headers['x-content-type-options'] = 'nosniff'
  const known = String(headers['if-none-match'] ?? '')
  if (known === '*' || known.split(',').some((tag) => tag.trim() === file.etag)) {
    delete answer.headers['content-length']
    return { ...answer, status: 304, body: Buffer.alloc(0) }
  }
  answer.headers['accept-ranges'] = 'bytes'
  return ranged(answer, String(headers.range ?? ''))
}

function ranged(answer: Answer, range: string): Answer {
  const found = /^bytes=(\d*)-(\d*)$/.exec(range)
  if (!found || (found[1] === '' && found[2] === '')) return answer
  const size = answer.body.length
  const start = found[1] === '' ? Math.max(0, size - Number(found[2])) : Number(found[1])
  const end = found[1] === '' || found[2] === '' ? size : Math.min(size, Number(found[2]) + 1)
  if (start >= size || end <= start) {
    return {
      status: 416,
      headers: { 'content-range': `bytes */${size}`, 'content-length': '0' },
      body: Buffer.alloc(0),
    }
  }
  const body = answer.body.subarray(start, end)
  const headers = {
    ...answer.headers,
    'content-length': String(body.length),
    'content-range': `bytes ${start}-${end - 1}/${size}`,
  }
  return { status: 206, headers, body }
}

/** `preview` and `channel` re-encode the picture; ours have the right type and the wrong pixels. */
function convert(file: StoredFile, query: URLSearchParams): Answer | undefined {
  const preview = query.get('preview')
  const channel = query.get('channel')
  if (preview === null && (channel === null || channel === 'rgba')) return undefined
  const picture = readPng(file.bytes)?.picture
  if (!picture) return serverError()
  if (preview?.startsWith('jpeg')) return withBody(200, 'image/jpeg', TINY_JPEG)
  if (preview !== null) return withBody(200, 'image/webp', TINY_WEBP)
  return withBody(200, 'image/png', encodePng({ ...picture, colour: channel === 'a' ? 0xffffff : picture.colour }))
}

/** `POST /upload/image`. */
export function uploadImage(state: WorkerState, request: RouteRequest): Answer {
  const form = readForm(request)
  return form ? store(state, form) : serverError()
}

/** `POST /upload/mask`: the mask is kept as it came, if the picture it belongs to exists. */
export function uploadMask(state: WorkerState, request: RouteRequest): Answer {
  const form = readForm(request)
  const text = form?.fields.get('original_ref')
  const ref = text === undefined ? undefined : parsePyJson(text)
  if (!form || !isPyObject(ref)) return serverError()
  const filename = ref.get('filename')
  const type = ref.get('type')
  const subfolder = ref.get('subfolder')
  const area = typeof type === 'string' && isFileArea(type) ? type : 'output'
  const folder = safeSubfolder(typeof subfolder === 'string' ? subfolder : '')
  const original =
    typeof filename === 'string' && folder !== undefined
      ? state.files.get(area, folder, posix.basename(filename))
      : undefined
  // Without its original ComfyUI writes nothing and says 200 all the same.
  return store(state, form, { isDry: original === undefined })
}

interface Upload {
  image: FormPart
  fields: ReadonlyMap<string, string>
}

function readForm({ headers, body }: RouteRequest): Upload | undefined {
  const parts = parseMultipart(String(headers['content-type'] ?? ''), body)
  const fields = new Map<string, string>()
  let image: FormPart = { name: 'image', filename: '', body: Buffer.alloc(0) }
  for (const part of parts) {
    if (part.name === 'image') image = part
    else fields.set(part.name, part.body.toString('utf8'))
  }
  return image.filename === undefined ? undefined : { image, fields }
}

function store({ files }: WorkerState, { image, fields }: Upload, { isDry = false } = {}): Answer {
  const area = fields.get('type') ?? 'input'
  if (!isFileArea(area)) return serverError()
  const subfolder = safeSubfolder(fields.get('subfolder') ?? '')
  const filename = image.filename ?? ''
  if (filename === '' || subfolder === undefined || posix.basename(filename) !== filename) return empty(400)
  const overwrite = fields.get('overwrite')
  const isForced = overwrite === 'true' || overwrite === '1'
  const name = isForced ? filename : freeName((each) => files.get(area, subfolder, each), filename, image.body)
  const isThere = files.get(area, subfolder, name)?.bytes.equals(image.body) ?? false
  if (!isDry && !isThere) files.put(area, subfolder, name, image.body)
  return json({ name, subfolder, type: area satisfies FileArea })
}

/** `u.png`, or the first of `u (1).png`, `u (2).png`, ... that is free or holds the same bytes. */
function freeName(get: (name: string) => StoredFile | undefined, filename: string, bytes: Buffer): string {
  const extension = posix.extname(filename)
  const stem = filename.slice(0, filename.length - extension.length)
  for (let counter = 0; ; counter += 1) {
    const name = counter === 0 ? filename : `${stem} (${counter})${extension}`
    const there = get(name)
    if (!there || there.bytes.equals(bytes)) return name
  }
}
