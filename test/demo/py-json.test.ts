import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dumpPyJson, PyJsonError, parsePyJson, pyFloat, pyRepr } from '../../src/demo/py-json.ts'

describe('JSON in the way of Python', () => {
  it.each([
    '{"10": 1, "2": 18446744073709551615, "f": 1.0, "e": 1e-07, "big": 1e+16}',
    '[NaN, Infinity, -Infinity, null, true, false]',
    '"\\u00e4 \\ud83d\\ude00 \\" \\\\ \\n"',
  ])('writes %s back as it was', (text) => {
    expect(dumpPyJson(parsePyJson(text))).toBe(text)
  })

  it('agrees with JSON.parse on what JSON.stringify gives', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value)
        expect(JSON.parse(dumpPyJson(parsePyJson(text)))).toEqual(JSON.parse(text))
      }),
    )
  })

  it.each(['', '{', '[1,]', '{"a" 1}', '01', '"\n"', '{} x', '"abc', '[1 2]', `${'['.repeat(2_000)}`])(
    'refuses %j',
    (text) => {
      expect(() => parsePyJson(text)).toThrow(PyJsonError)
    },
  )

  it('survives random text', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          dumpPyJson(parsePyJson(text))
        } catch (error) {
          expect(error).toBeInstanceOf(PyJsonError)
        }
      }),
    )
  })

  it('prints floats and texts as Python does', () => {
    expect([3, 0.1, 1e22, 1.5e-7, -0].map((each) => pyFloat(each).text)).toEqual([
      '3.0',
      '0.1',
      '1e+22',
      '1.5e-07',
      '-0.0',
    ])
    expect(pyRepr(["it's", 'a', null, true])).toBe(`["it's", 'a', None, True]`)
  })
})
