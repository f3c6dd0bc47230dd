import { randomUUID } from 'node:crypto'
import { type Answer, json, type RouteRequest, withBody } from './answers.ts'
import type { PyDumpable } from './py-json.ts'
import type { WorkerState } from './worker-state.ts'

/** The node pack that Krita needs: pictures in the server's memory, and what its models are. */

export const LOAD_IMAGE = 'ETN_LoadImageCache'
export const SAVE_IMAGE = 'ETN_SaveImageCache'

/** Pictures are forgotten after so long, or sooner when they were used; ms. */
const MAX_AGE_MS = 600_000
const USED_AGE_MS = 60_000

interface CachedImage {
  bytes: Buffer
  contentType: string
  at: number
  gets: number
}

/** Pictures by id. The first content of an id stays. */
export class ImageCache {
  readonly #images = new Map<string, CachedImage>()

  get ids(): string[] {
    return [...this.#images.keys()]
  }

  /** False when the id is taken. */
  put(id: string, bytes: Buffer, contentType: string): boolean {
    if (this.#images.has(id)) return false
    this.#images.set(id, { bytes, contentType, at: Date.now(), gets: 0 })
    return true
  }

  /** Keeps a result and gives its id. */
  add(bytes: Buffer, contentType: string): string {
    const id = randomUUID().replaceAll('-', '')
    this.put(id, bytes, contentType)
    return id
  }

  /** `isInput`: a prompt loads it, which keeps it for longer. */
  get(id: string, { isInput = false } = {}): { bytes: Buffer; contentType: string } | undefined {
    const image = this.#images.get(id)
    if (!image) return undefined
    image.gets += 1
    if (isInput) image.at = Date.now()
    for (const [each, { at, gets }] of this.#images) {
      const age = Date.now() - at
      if (age > MAX_AGE_MS || (age > USED_AGE_MS && gets > 1)) this.#images.delete(each)
    }
    return image
  }

  clear(): void {
    this.#images.clear()
  }
}

/** Undefined for other paths, and on a worker without the pack. */
export function toolingRoute(state: WorkerState, request: RouteRequest): Answer | undefined {
  const [, pack, route, name = '', text] = request.path.split('/').map(decodeURIComponent)
  if (pack !== 'etn' || !state.catalogue.classOf(LOAD_IMAGE)) return undefined
  const isGet = request.method === 'GET' || request.method === 'HEAD'
  if (route === 'image' && request.method === 'PUT') return putImage(state, name, request)
  if (!isGet) return undefined
  if (route === 'image') {
    const image = state.images.get(name)
    return image ? withBody(200, image.contentType, image.bytes) : json({ error: 'Image not found' }, 404)
  }
  if (route === 'model_info') return modelInfo(state, name === '' ? 'checkpoints' : name, request.query)
  if (route === 'languages') return json([{ name: 'German', code: 'de' }])
  return route === 'translate' ? json(`${name}:${text ?? ''}`) : undefined
}

function putImage({ images }: WorkerState, id: string, { body, headers }: RouteRequest): Answer {
  const isNew = images.put(id, body, String(headers['content-type'] ?? 'application/octet-stream'))
  return isNew ? json({ status: 'success' }, 201) : json({ status: 'cached' })
}

function modelInfo({ catalogue }: WorkerState, folder: string, query: URLSearchParams): Answer {
  const models = catalogue.models(folder)
  if (!models) return json({ error: 'Invalid folder path' }, 400)
  const offset = Number(query.get('offset') ?? 0)
  const part = models.slice(offset, offset + Number(query.get('limit') ?? 1_000))
  const infos: [string, PyDumpable][] = part.map((model) => [model, { base_model: 'sd15', is_inpaint: false }])
  const meta: PyDumpable = { offset, count: part.length, total: models.length }
  return json(new Map(query.has('limit') ? [...infos, ['_meta', meta]] : infos))
}
