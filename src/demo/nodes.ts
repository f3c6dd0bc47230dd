import { posix } from 'node:path'
import type { FrameImageType } from '../comfyui/frames.ts'
import type { ExtraClass } from './classes.ts'
import { type FileArea, type FileStore, filePath, findAnnotated, safeSubfolder } from './files.ts'
import type { Ledger } from './ledger.ts'
import { encodePng, MAX_PIXELS, type Picture, readPng } from './png.ts'
import {
  dumpPyJson,
  isPyObject,
  type PyDumpable,
  PyNumber,
  type PyObject,
  type PyValue,
  pyFloat,
  pyInt,
} from './py-json.ts'
import { TINY_JPEG } from './tiny-pictures.ts'
import { type ImageCache, LOAD_IMAGE, SAVE_IMAGE } from './tooling-nodes.ts'

/** What flows along a link. */
export type NodeValue =
  | { kind: 'image'; picture: Picture; count: number }
  | { kind: 'mask'; width: number; height: number; level: number }
  | { kind: 'latent'; width: number; height: number; count: number; colour: number }
  | { kind: 'token' }

export interface NodeResult {
  values: readonly NodeValue[]
  /** What the node shows: `executed.output` and `history.outputs`. */
  ui?: PyDumpable
}

export type NodeInput = { kind: 'literal'; value: PyValue } | { kind: 'linked'; value: NodeValue }
export type NodeInputs = ReadonlyMap<string, NodeInput>

/** How long things take, in ms. Settable at run time. */
export interface Pace {
  /** Every node that runs. */
  nodeMs: number
  /** Every step of a sampler. */
  stepMs: number
  /** Time between two ticks of TestSleep. */
  tickMs: number
}

/** What a running node may use. */
export interface NodeContext {
  promptId: string
  prompt: PyObject
  extraData: PyObject
  className: string
  extra: ExtraClass | undefined
  /** Same inputs, same signature: 40 hex digits. */
  signature: string
  files: FileStore
  images: ImageCache
  ledger: Ledger
  pace: Readonly<Pace>
  sendPreviews: boolean
  /** Five letters, as in the names of temp files. */
  randomLetters(): string
  /** Throws when the run was interrupted or the worker died meanwhile. */
  sleep(ms: number): Promise<void>
  /** Reports progress, with a picture if there is one. Throws when the run was interrupted. */
  progress(value: PyNumber, max: PyNumber, image?: { type: FrameImageType; bytes: Buffer }): void
}

/** A node failed; becomes `execution_error`. */
export class NodeError extends Error {
  readonly type: string
  constructor(type: string, message: string) {
    super(message)
    this.type = type
  }
}

export const outOfMemory = (): NodeError => new NodeError('torch.OutOfMemoryError', 'Allocation on device 0 failed')

const LATENT_PIXELS = 8
/** Pixels that one batch may have; more is out of memory. */
const MAX_BATCH_PIXELS = 4 * MAX_PIXELS

/** Runs one node. Throws NodeError, or what `context.sleep` throws. */
export async function runNode(context: NodeContext, inputs: NodeInputs): Promise<NodeResult> {
  await context.sleep(context.pace.nodeMs)
  switch (context.className) {
    case 'EmptyImage':
      return image(solid(inputs, 'width', 'height', number(inputs, 'color')), number(inputs, 'batch_size'))
    case 'StubImage':
      return image(stub(context, inputs), number(inputs, 'batch_size'))
    case 'StubMask':
      return {
        values: [
          {
            kind: 'mask',
            width: number(inputs, 'width'),
            height: number(inputs, 'height'),
            level: number(inputs, 'value'),
          },
        ],
      }
    case 'ImageScale':
      return scale(inputs)
    case 'TestLazyMixImages':
      return mix(inputs)
    case 'TestSleep':
      return sleepThrough(context, inputs)
    case 'LoadImage':
    case 'LoadImageMask':
      return load(context, inputs)
    case 'SaveImage':
      return save(context, inputs, 'output', text(inputs, 'filename_prefix'))
    case 'PreviewImage':
      return save(context, inputs, 'temp', `ComfyUI_temp_${context.randomLetters()}`)
    case 'SaveImageWebsocket':
      return sendResults(context, inputs)
    case LOAD_IMAGE:
      return loadCached(context, inputs)
    case SAVE_IMAGE:
      return saveCached(context, inputs)
    case 'EmptyLatentImage':
      return {
        values: [
          {
            kind: 'latent',
            width: Math.floor(number(inputs, 'width') / LATENT_PIXELS),
            height: Math.floor(number(inputs, 'height') / LATENT_PIXELS),
            count: number(inputs, 'batch_size'),
            colour: 0,
          },
        ],
      }
    case 'KSampler':
      return sample(context, inputs)
    case 'VAEDecode':
      return decode(inputs)
    case 'CheckpointLoaderSimple':
    case 'LoraLoader':
    case 'CLIPTextEncode':
      return { values: [{ kind: 'token' }, { kind: 'token' }, { kind: 'token' }] }
    default:
      return runExtra(context, inputs)
  }
}

/** Inputs a node needs before it can run, of those that its class calls lazy. */
export function neededLazyInputs(className: string, inputs: NodeInputs): string[] {
  if (className !== 'TestLazyMixImages') return []
  const mask = inputs.get('mask')
  const level = mask?.kind === 'linked' && mask.value.kind === 'mask' ? mask.value.level : 0.5
  // Python asks for a set here, so the order is nobody's promise.
  const wanted = level === 0 ? ['image1'] : level === 1 ? ['image2'] : ['image2', 'image1']
  return wanted.filter((name) => !inputs.has(name))
}

function runExtra({ extra, signature }: NodeContext, inputs: NodeInputs): NodeResult {
  const linked = [...inputs.values()].find((input) => input.kind === 'linked')
  const made: NodeValue = { kind: 'image', picture: { width: 64, height: 64, colour: colourOf(signature) }, count: 1 }
  const value = linked?.kind === 'linked' ? linked.value : made
  const values = (extra?.output ?? ['IMAGE']).map((): NodeValue => value)
  return extra?.ui === undefined ? { values } : { values, ui: extra.ui }
}

function sample(context: NodeContext, inputs: NodeInputs): Promise<NodeResult> {
  const latent = linked(inputs, 'latent_image', 'latent')
  const steps = number(inputs, 'steps')
  const run = async (): Promise<NodeResult> => {
    for (let step = 1; step <= steps; step += 1) {
      await context.sleep(context.pace.stepMs)
      const preview = context.sendPreviews ? { type: 'image/jpeg' as const, bytes: TINY_JPEG } : undefined
      context.progress(pyInt(step), pyInt(steps), preview)
    }
    return { values: [{ ...latent, colour: colourOf(context.signature) }] }
  }
  return run()
}

function decode(inputs: NodeInputs): NodeResult {
  const { width, height, count, colour } = linked(inputs, 'samples', 'latent')
  return image({ width: width * LATENT_PIXELS, height: height * LATENT_PIXELS, colour }, count)
}

async function sleepThrough(context: NodeContext, inputs: NodeInputs): Promise<NodeResult> {
  const seconds = number(inputs, 'seconds')
  const startedAt = performance.now()
  for (let elapsed = 0; elapsed < seconds; ) {
    elapsed = (performance.now() - startedAt) / 1000
    context.progress(pyFloat(Math.min(elapsed, seconds)), pyFloat(seconds))
    await context.sleep(context.pace.tickMs)
  }
  const input = inputs.get('value')
  return { values: [input?.kind === 'linked' ? input.value : { kind: 'token' }] }
}

function load(context: NodeContext, inputs: NodeInputs): NodeResult {
  const name = text(inputs, 'image')
  const file = findAnnotated(context.files, name, 'input')
  if (!file) throw new NodeError('FileNotFoundError', `[Errno 2] No such file or directory: '${name}'`)
  // What is no PNG still gives a picture, with a colour that tells files apart.
  const picture = readPng(file.bytes)?.picture ?? { width: 64, height: 64, colour: colourOf(file.contentHash) }
  const mask: NodeValue = { kind: 'mask', width: 64, height: 64, level: 0 }
  return { values: context.className === 'LoadImageMask' ? [mask] : [{ kind: 'image', picture, count: 1 }, mask] }
}

function save(context: NodeContext, inputs: NodeInputs, area: FileArea, prefix: string): NodeResult {
  const { picture, count } = linked(inputs, 'images', 'image')
  const expanded = prefix.replaceAll('%width%', String(picture.width)).replaceAll('%height%', String(picture.height))
  const subfolder = safeSubfolder(posix.dirname(posix.normalize(expanded)))
  if (subfolder === undefined) throw new NodeError('Exception', 'The file would be saved outside of the output folder')
  const base = posix.basename(posix.normalize(expanded))
  const bytes = encodePng(picture, pngTexts(context))
  const first = context.files.nextCounter(area, subfolder, base)
  const images: PyDumpable[] = []
  for (let counter = first; counter < first + count; counter += 1) {
    const filename = `${base}_${String(counter).padStart(5, '0')}_.png`
    context.files.put(area, subfolder, filename, bytes)
    context.ledger.fileMade(filePath(area, subfolder, filename), context.promptId)
    images.push({ filename, subfolder, type: area })
  }
  return { values: [], ui: { images } }
}

function sendResults(context: NodeContext, inputs: NodeInputs): NodeResult {
  const { picture, count } = linked(inputs, 'images', 'image')
  const bytes = encodePng(picture)
  for (let index = 0; index < count; index += 1) {
    context.progress(pyInt(index), pyInt(count), { type: 'image/png', bytes })
  }
  return { values: [] }
}

function loadCached({ images }: NodeContext, inputs: NodeInputs): NodeResult {
  const id = text(inputs, 'id')
  const picture = readPng(images.get(id, { isInput: true })?.bytes ?? Buffer.alloc(0))?.picture
  if (!picture) throw new NodeError('ValueError', `There is no image with the ID ${id}`)
  const mask: NodeValue = { kind: 'mask', width: picture.width, height: picture.height, level: 0 }
  return { values: [{ kind: 'image', picture, count: 1 }, mask] }
}

function saveCached({ images }: NodeContext, inputs: NodeInputs): NodeResult {
  const { picture, count } = linked(inputs, 'images', 'image')
  const bytes = encodePng(picture)
  const results = Array.from({ length: count }, () => ({
    source: 'http',
    id: images.add(bytes, 'image/png'),
    'content-type': 'image/png',
    type: 'output',
  }))
  return { values: [], ui: { images: results } }
}

function pngTexts({ prompt, extraData }: NodeContext): Map<string, string> {
  const texts = new Map([['prompt', dumpPyJson(prompt)]])
  const info = extraData.get('extra_pnginfo')
  if (isPyObject(info)) for (const [key, value] of info) texts.set(key, dumpPyJson(value))
  return texts
}

function scale(inputs: NodeInputs): NodeResult {
  const { picture, count } = linked(inputs, 'image', 'image')
  let width = number(inputs, 'width')
  let height = number(inputs, 'height')
  if (width === 0 && height === 0) return image(picture, count)
  if (width === 0) width = Math.max(1, Math.round((picture.width * height) / picture.height))
  if (height === 0) height = Math.max(1, Math.round((picture.height * width) / picture.width))
  return image({ ...picture, width, height }, count)
}

function mix(inputs: NodeInputs): NodeResult {
  const mask = linked(inputs, 'mask', 'mask')
  const pictures = ['image1', 'image2'].flatMap((name) =>
    inputs.has(name) ? [linked(inputs, name, 'image').picture] : [],
  )
  for (const picture of pictures) {
    if (picture.width !== mask.width) throw sizeMismatch(picture.width, mask.width, 2)
    if (picture.height !== mask.height) throw sizeMismatch(picture.height, mask.height, 1)
  }
  const [first, second = first] = pictures
  if (!first || !second) throw new NodeError('TypeError', 'There is no picture to mix')
  return image({ ...first, colour: blend(first.colour, second.colour, mask.level) }, 1)
}

const sizeMismatch = (a: number, b: number, dimension: number): NodeError =>
  new NodeError(
    'RuntimeError',
    `The size of tensor a (${a}) must match the size of tensor b (${b}) at non-singleton dimension ${dimension}`,
  )

function blend(a: number, b: number, level: number): number {
  let colour = 0
  for (const shift of [16, 8, 0]) {
    colour |= Math.round(((a >> shift) & 255) * (1 - level) + ((b >> shift) & 255) * level) << shift
  }
  return colour
}

function stub(context: NodeContext, inputs: NodeInputs): Picture {
  const content = text(inputs, 'content')
  const picture = solid(inputs, 'width', 'height', content === 'WHITE' ? 0xffffff : 0)
  return content === 'NOISE' ? { ...picture, noiseSeed: Number.parseInt(context.signature.slice(0, 8), 16) } : picture
}

const solid = (inputs: NodeInputs, width: string, height: string, colour: number): Picture => ({
  width: number(inputs, width),
  height: number(inputs, height),
  colour,
})

function image(picture: Picture, count: number): NodeResult {
  const pixels = picture.width * picture.height
  if (pixels > MAX_PIXELS || pixels * count > MAX_BATCH_PIXELS) throw outOfMemory()
  return { values: [{ kind: 'image', picture, count }] }
}

/** A colour that a hash decides: its first six hex digits. */
const colourOf = (hash: string): number => Number.parseInt(hash.slice(0, 6), 16)

function number(inputs: NodeInputs, name: string): number {
  const input = inputs.get(name)
  if (input?.kind === 'literal' && input.value instanceof PyNumber) return input.value.value
  throw new NodeError('TypeError', `${name} is not a number`)
}

function text(inputs: NodeInputs, name: string): string {
  const input = inputs.get(name)
  if (input?.kind === 'literal' && typeof input.value === 'string') return input.value
  throw new NodeError('TypeError', `${name} is not a text`)
}

function linked<K extends NodeValue['kind']>(
  inputs: NodeInputs,
  name: string,
  kind: K,
): Extract<NodeValue, { kind: K }> {
  const input = inputs.get(name)
  if (input?.kind === 'linked' && isKind(input.value, kind)) return input.value
  throw new NodeError('AttributeError', `${name} is not of the kind ${kind}`)
}

const isKind = <K extends NodeValue['kind']>(value: NodeValue, kind: K): value is Extract<NodeValue, { kind: K }> =>
  value.kind === kind
