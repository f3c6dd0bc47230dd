import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type BinaryFrame,
  decodeFrame,
  encodeFrame,
  frameImageType,
  framePromptId,
  isResultFrame,
  MAX_FRAME_HEADER_BYTES,
  type MetadataImageFrame,
  toLegacyFrame,
  withPromptId,
} from '../../src/comfyui/frames.ts'

const image = fc.uint8Array({ maxLength: 200 })
const imageType = fc.constantFrom('image/jpeg' as const, 'image/png' as const)
const text = fc
  .string({ unit: 'binary', maxLength: 60 })
  .filter((value) => Buffer.from(value, 'utf8').toString('utf8') === value)

const anyFrame: fc.Arbitrary<BinaryFrame> = fc.oneof(
  fc.record({ kind: fc.constant('image' as const), imageType, image }),
  fc.record({ kind: fc.constant('text' as const), nodeId: text, text }),
  fc.record({
    kind: fc.constant('image-with-metadata' as const),
    metadata: fc.record({ prompt_id: text, node_id: text, image_type: imageType, parent_node_id: fc.constant(null) }),
    image,
  }),
)

const withMetadata = (metadata: Record<string, unknown>): MetadataImageFrame => ({
  kind: 'image-with-metadata',
  metadata,
  image: Uint8Array.of(1, 2, 3),
})

function head(type: number, second: number, rest = ''): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt32BE(type, 0)
  bytes.writeUInt32BE(second, 4)
  return Buffer.concat([bytes, Buffer.from(rest)])
}

describe('binary frames', () => {
  it('reads back every frame that it writes', () => {
    fc.assert(
      fc.property(anyFrame, (frame) => {
        const decoded = decodeFrame(encodeFrame(frame))
        expect(decoded && plain(decoded)).toEqual(plain(frame))
      }),
    )
  })

  it('reads a frame that starts inside a larger buffer', () => {
    const bytes = encodeFrame({ kind: 'text', nodeId: '3', text: 'hello' })
    const padded = Buffer.concat([Buffer.from('xyz'), bytes])
    expect(decodeFrame(padded.subarray(3))).toEqual({ kind: 'text', nodeId: '3', text: 'hello' })
  })

  it('writes text as the wire has it', () => {
    expect(encodeFrame({ kind: 'text', nodeId: '3', text: 'hello' }).toString('hex')).toBe(
      '00000003000000013368656c6c6f',
    )
  })

  it('survives random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.integer({ min: 0, max: 6 }), (bytes, type) => {
        const frame = decodeFrame(Buffer.concat([head(type, bytes[0] ?? 0), bytes]))
        if (frame) expect(decodeFrame(encodeFrame(frame))).toBeDefined()
        decodeFrame(bytes)
      }),
      { numRuns: 2_000 },
    )
  })

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['half a head', head(1, 1).subarray(0, 7)],
    ['an unknown type', head(9, 1, 'x')],
    ['the internal type 2', head(2, 1, 'x')],
    ['an unknown picture format', head(1, 3, 'x')],
    ['a text length past the end', head(3, 5, 'abcd')],
    ['a metadata length past the end', head(4, 0xffffffff, '{}')],
    ['metadata that is not JSON', head(4, 3, '{x}')],
    ['metadata that is a list', head(4, 2, '[]')],
    ['broken UTF-8', Buffer.concat([head(3, 1), Buffer.of(0xff)])],
    ['oversized metadata', head(4, MAX_FRAME_HEADER_BYTES + 2, JSON.stringify('x'.repeat(MAX_FRAME_HEADER_BYTES)))],
  ])('refuses %s', (_name, bytes) => {
    expect(decodeFrame(bytes)).toBeUndefined()
  })

  it('refuses to write metadata that it would not read', () => {
    expect(() => encodeFrame(withMetadata({ a: 'x'.repeat(MAX_FRAME_HEADER_BYTES) }))).toThrow(RangeError)
  })

  it('turns type 4 into type 1 with the format mapped', () => {
    const jpeg = toLegacyFrame(withMetadata({ image_type: 'image/jpeg' }))
    const png = toLegacyFrame(withMetadata({ image_type: 'image/png' }))
    expect(jpeg && encodeFrame(jpeg).toString('hex')).toBe('0000000100000001010203')
    expect(png && encodeFrame(png).toString('hex')).toBe('0000000100000002010203')
    expect(toLegacyFrame(withMetadata({ image_type: 'image/webp' }))).toBeUndefined()
    expect(toLegacyFrame(withMetadata({}))).toBeUndefined()
  })

  it('tells results from previews', () => {
    expect(isResultFrame(withMetadata({ image_type: 'image/png' }))).toBe(true)
    expect(isResultFrame(withMetadata({ image_type: 'image/jpeg' }))).toBe(false)
    expect(isResultFrame({ kind: 'image', imageType: 'image/png', image: new Uint8Array() })).toBe(true)
    expect(isResultFrame({ kind: 'image', imageType: 'image/jpeg', image: new Uint8Array() })).toBe(false)
    expect(isResultFrame({ kind: 'text', nodeId: '1', text: '' })).toBe(false)
  })

  it('changes the prompt id and nothing else', () => {
    const frame = withMetadata({ node_id: '2', prompt_id: 'theirs', image_type: 'image/jpeg', extra: [1] })
    const changed = withPromptId(frame, 'ours')
    expect(framePromptId(changed)).toBe('ours')
    expect(changed.metadata).toEqual({ ...frame.metadata, prompt_id: 'ours' })
    expect(framePromptId(frame)).toBe('theirs')
    expect(framePromptId(withMetadata({ prompt_id: 5 }))).toBeUndefined()
  })

  it('reads the frame of a recorded SaveImageWebsocket as a PNG result', () => {
    const recording = readFileSync(new URL('../fixtures/comfyui-0.3.64.json', import.meta.url), 'utf8')
    const base64 = /"binary_base64": ?"([^"]+)"/.exec(recording)?.[1] ?? ''
    const frame = decodeFrame(Buffer.from(base64, 'base64'))
    expect(frame && frameImageType(frame)).toBe('image/png')
    expect(frame && isResultFrame(frame)).toBe(true)
    expect(frame && encodeFrame(frame).toString('base64')).toBe(base64)
  })
})

/** Buffers and Uint8Arrays of the same bytes compare equal after this. */
const plain = (frame: BinaryFrame) => ('image' in frame ? { ...frame, image: [...frame.image] } : frame)
