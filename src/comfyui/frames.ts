/** ComfyUI's binary websocket frames: a big-endian uint32 type, then a layout per type. Type 2 never reaches the wire. */

/** What ComfyUI sends pictures as. JPEG is a preview; PNG is a result (`SaveImageWebsocket`). */
export type FrameImageType = 'image/jpeg' | 'image/png'

/** Type 1: a picture that says nothing of its prompt or node. */
export interface LegacyImageFrame {
  kind: 'image'
  imageType: FrameImageType
  image: Uint8Array
}

/** Type 3: text that a node shows. It names the node, not the prompt. */
export interface TextFrame {
  kind: 'text'
  nodeId: string
  text: string
}

/** Type 4: a picture with metadata in ComfyUI's own spelling (`prompt_id`, `node_id`, `image_type`, ...); unknown keys are kept. */
export interface MetadataImageFrame {
  kind: 'image-with-metadata'
  metadata: Readonly<Record<string, unknown>>
  image: Uint8Array
}

export type BinaryFrame = LegacyImageFrame | TextFrame | MetadataImageFrame

const TYPE_IMAGE = 1
const TYPE_TEXT = 3
const TYPE_IMAGE_WITH_METADATA = 4

const WORD_BYTES = 4

/** Longest metadata or node id that is read, in bytes; real ones are some hundred. */
export const MAX_FRAME_HEADER_BYTES = 64 * 1024

const FORMAT_OF: Readonly<Record<FrameImageType, number>> = { 'image/jpeg': 1, 'image/png': 2 }

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Reads a frame. Undefined for everything that is not a whole frame of a known type: a worker's bytes are untrusted.
 * `image` is a view on the given bytes, not a copy.
 */
export function decodeFrame(bytes: Uint8Array): BinaryFrame | undefined {
  if (bytes.length < WORD_BYTES * 2) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const second = view.getUint32(WORD_BYTES)
  switch (view.getUint32(0)) {
    case TYPE_IMAGE: {
      const imageType = imageTypeOfFormat(second)
      return imageType && { kind: 'image', imageType, image: bytes.subarray(WORD_BYTES * 2) }
    }
    case TYPE_TEXT: {
      const nodeId = readHeader(bytes, second)
      const text = nodeId === undefined ? undefined : decodeUtf8(bytes.subarray(WORD_BYTES * 2 + second))
      return nodeId === undefined || text === undefined ? undefined : { kind: 'text', nodeId, text }
    }
    case TYPE_IMAGE_WITH_METADATA: {
      const metadata = parseMetadata(readHeader(bytes, second))
      return metadata && { kind: 'image-with-metadata', metadata, image: bytes.subarray(WORD_BYTES * 2 + second) }
    }
    default:
      return undefined
  }
}

/** Writes a frame. Throws RangeError when its metadata or node id is longer than `MAX_FRAME_HEADER_BYTES`. */
export function encodeFrame(frame: BinaryFrame): Buffer {
  switch (frame.kind) {
    case 'image':
      return Buffer.concat([words(TYPE_IMAGE, FORMAT_OF[frame.imageType]), frame.image])
    case 'text':
      return withHeader(TYPE_TEXT, frame.nodeId, Buffer.from(frame.text, 'utf8'))
    case 'image-with-metadata':
      return withHeader(TYPE_IMAGE_WITH_METADATA, JSON.stringify(frame.metadata), frame.image)
    default:
      return frame satisfies never
  }
}

/** The form of a picture for sockets that did not announce `supports_preview_metadata`. Undefined when type 1 cannot carry its format. */
export function toLegacyFrame(frame: MetadataImageFrame): LegacyImageFrame | undefined {
  const imageType = frameImageType(frame)
  return imageType && { kind: 'image', imageType, image: frame.image }
}

/** True for a result that must reach its client whole; previews may be dropped. */
export const isResultFrame = (frame: BinaryFrame): boolean => frameImageType(frame) === 'image/png'

/** The picture's format. Undefined for text and for formats that ComfyUI does not send. */
export function frameImageType(frame: BinaryFrame): FrameImageType | undefined {
  if (frame.kind === 'text') return undefined
  const type = frame.kind === 'image' ? frame.imageType : frame.metadata.image_type
  return type === 'image/jpeg' || type === 'image/png' ? type : undefined
}

/** The prompt a frame belongs to; only type 4 says so. */
export function framePromptId(frame: BinaryFrame): string | undefined {
  const id = frame.kind === 'image-with-metadata' ? frame.metadata.prompt_id : undefined
  return typeof id === 'string' ? id : undefined
}

/** The same picture under another prompt id. The image bytes are shared, not copied. */
export function withPromptId(frame: MetadataImageFrame, promptId: string): MetadataImageFrame {
  return { ...frame, metadata: { ...frame.metadata, prompt_id: promptId } }
}

function imageTypeOfFormat(format: number): FrameImageType | undefined {
  if (format === FORMAT_OF['image/jpeg']) return 'image/jpeg'
  if (format === FORMAT_OF['image/png']) return 'image/png'
  return undefined
}

function readHeader(bytes: Uint8Array, length: number): string | undefined {
  if (length > MAX_FRAME_HEADER_BYTES || length > bytes.length - WORD_BYTES * 2) return undefined
  return decodeUtf8(bytes.subarray(WORD_BYTES * 2, WORD_BYTES * 2 + length))
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

function parseMetadata(text: string | undefined): Readonly<Record<string, unknown>> | undefined {
  if (text === undefined) return undefined
  try {
    const value: unknown = JSON.parse(text)
    const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value)
    // An object from JSON.parse has string keys only.
    return isRecord ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function withHeader(type: number, header: string, rest: Uint8Array): Buffer {
  const bytes = Buffer.from(header, 'utf8')
  if (bytes.length > MAX_FRAME_HEADER_BYTES) throw new RangeError(`A frame's header has ${bytes.length} bytes`)
  return Buffer.concat([words(type, bytes.length), bytes, rest])
}

function words(first: number, second: number): Buffer {
  const head = Buffer.alloc(WORD_BYTES * 2)
  head.writeUInt32BE(first, 0)
  head.writeUInt32BE(second, WORD_BYTES)
  return head
}
