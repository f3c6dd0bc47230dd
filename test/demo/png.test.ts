import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodePng, MAX_PIXELS, readPng } from '../../src/demo/png.ts'

describe('PNG', () => {
  it('reads back size, colour and text', () => {
    const picture = fc.record({
      width: fc.integer({ min: 1, max: 40 }),
      height: fc.integer({ min: 1, max: 40 }),
      colour: fc.integer({ min: 0, max: 0xffffff }),
    })
    fc.assert(
      fc.property(picture, fc.string({ unit: 'grapheme-ascii' }), (each, text) => {
        expect(readPng(encodePng(each, new Map([['prompt', text]])))).toEqual({
          picture: each,
          text: new Map([['prompt', text]]),
        })
      }),
    )
  })

  it('refuses what is too large to draw, and what says it is', () => {
    expect(() => encodePng({ width: MAX_PIXELS, height: 2, colour: 0 })).toThrow(RangeError)
    const bytes = encodePng({ width: 1, height: 1, colour: 0 })
    bytes.writeUInt32BE(0x7fffffff, 16)
    expect(readPng(bytes)).toBeUndefined()
  })

  it('survives broken bytes', () => {
    const whole = encodePng({ width: 3, height: 3, colour: 0x123456 })
    fc.assert(
      fc.property(
        fc.nat({ max: whole.length - 1 }),
        fc.integer({ min: 0, max: 255 }),
        fc.nat({ max: whole.length }),
        (at, byte, end) => {
          const bytes = Buffer.from(whole)
          bytes[at] = byte
          readPng(bytes)
          readPng(bytes.subarray(0, end))
        },
      ),
    )
    expect(readPng(Buffer.from('no picture'))).toBeUndefined()
  })
})
