import { crc32, deflateSync, inflateSync } from 'node:zlib'

/** A picture of one colour, or of noise that its seed decides. Colours are 0xRRGGBB. */
export interface Picture {
  width: number
  height: number
  colour: number
  noiseSeed?: number
}

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
const BYTES_PER_PIXEL = 3
const HEADER_BYTES = 33

/** No picture larger than this is drawn or read, in pixels: the raw bytes are held in memory at once. */
export const MAX_PIXELS = 16 * 1024 * 1024

/** Encodes an 8-bit RGB PNG. Text chunks come before the pixels; their values must be Latin-1. Throws RangeError over `MAX_PIXELS`. */
export function encodePng(picture: Picture, text: ReadonlyMap<string, string> = new Map()): Buffer {
  if (picture.width * picture.height > MAX_PIXELS) throw new RangeError('The picture is too large')
  const header = Buffer.alloc(13)
  header.writeUInt32BE(picture.width, 0)
  header.writeUInt32BE(picture.height, 4)
  header.set([8, 2, 0, 0, 0], 8)
  const texts = [...text].map(([key, value]) => chunk('tEXt', Buffer.from(`${key}\0${value}`, 'latin1')))
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    ...texts,
    chunk('IDAT', deflateSync(scanlines(picture), { level: 1 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

/** What a PNG holds, as far as the simulation needs it: its size, first pixel and text chunks. Undefined when it is not a PNG we can read. */
export function readPng(bytes: Buffer): { picture: Picture; text: ReadonlyMap<string, string> } | undefined {
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, SIGNATURE.length).equals(SIGNATURE)) return undefined
  const text = new Map<string, string>()
  const data: Buffer[] = []
  for (let at = SIGNATURE.length; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at)
    const body = bytes.subarray(at + 8, at + 8 + length)
    if (body.length !== length) return undefined
    const type = bytes.toString('latin1', at + 4, at + 8)
    if (type === 'IDAT') data.push(body)
    if (type === 'tEXt') {
      const end = body.indexOf(0)
      if (end > 0) text.set(body.toString('latin1', 0, end), body.toString('latin1', end + 1))
    }
    at += 12 + length
  }
  const width = bytes.readUInt32BE(16)
  const height = bytes.readUInt32BE(20)
  const colour = firstPixel(Buffer.concat(data))
  if (width < 1 || height < 1 || width * height > MAX_PIXELS || colour === undefined) return undefined
  return { picture: { width, height, colour }, text }
}

function scanlines({ width, height, colour, noiseSeed }: Picture): Buffer {
  const rowBytes = 1 + width * BYTES_PER_PIXEL
  const raw = Buffer.alloc(rowBytes * height)
  if (noiseSeed !== undefined) {
    let state = noiseSeed | 1
    for (let at = 0; at < raw.length; at += 1) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0
      raw[at] = at % rowBytes === 0 ? 0 : state >>> 24
    }
    return raw
  }
  for (let at = 1; at < rowBytes; at += BYTES_PER_PIXEL) raw.writeUIntBE(colour & 0xffffff, at, BYTES_PER_PIXEL)
  for (let row = 1; row < height; row += 1) raw.copy(raw, row * rowBytes, 0, rowBytes)
  return raw
}

function firstPixel(data: Buffer): number | undefined {
  try {
    const raw = inflateSync(data, { maxOutputLength: MAX_PIXELS * 4 + 65_536 })
    // Whatever the filter of the first row, its first pixel is stored as it is: its neighbours count as 0.
    return raw.length > BYTES_PER_PIXEL ? raw.readUIntBE(1, BYTES_PER_PIXEL) : 0
  } catch {
    return undefined
  }
}

function chunk(type: string, body: Buffer): Buffer {
  const bytes = Buffer.alloc(12 + body.length)
  bytes.writeUInt32BE(body.length, 0)
  bytes.write(type, 4, 'latin1')
  body.copy(bytes, 8)
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + body.length)), 8 + body.length)
  return bytes
}
