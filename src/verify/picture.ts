import { inflateSync } from 'node:zlib'

/** What tells one test picture from another. */
export interface PictureFacts {
  width: number
  height: number
  /** RGB of the first pixel, as `EmptyImage` takes its colour. */
  colour: number
}

/** Test pictures are tiny; bytes of an unpacked one. */
const MAX_UNPACKED_BYTES = 64 * 1024 * 1024

/** Reads the head and the first pixel of an 8-bit RGB or RGBA PNG. Throws when it is none. */
export function readPicture(bytes: Buffer): PictureFacts {
  if (bytes.toString('latin1', 1, 4) !== 'PNG') throw new Error('not a PNG')
  const data: Buffer[] = []
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at)
    if (bytes.toString('latin1', at + 4, at + 8) === 'IDAT') data.push(bytes.subarray(at + 8, at + 8 + length))
    at += length + 12
  }
  const pixels = inflateSync(Buffer.concat(data), { maxOutputLength: MAX_UNPACKED_BYTES })
  // Byte 0 is the filter of the first row; without a left and upper neighbour every filter leaves the first pixel as it is.
  return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20), colour: pixels.readUIntBE(1, 3) }
}
