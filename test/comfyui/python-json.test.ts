import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dumpsNode, dumpsPython, pythonFloat, quotePython, RawJson, strNode } from '../../src/comfyui/python-json.ts'
import { parseJson } from '../../src/comfyui/raw-json.ts'

describe('pythonFloat', () => {
  it.each([
    [-3, '-3.0'],
    [0, '0.0'],
    [-0, '-0.0'],
    [0.1, '0.1'],
    [0.0001, '0.0001'],
    [0.00001, '1e-05'],
    [0.000012345, '1.2345e-05'],
    [123456.789, '123456.789'],
    [1e15, '1000000000000000.0'],
    [2 ** 53, '9007199254740992.0'],
    [1e16, '1e+16'],
    [1.5e300, '1.5e+300'],
    [5e-324, '5e-324'],
    [Number.NaN, 'NaN'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
    [Number.NEGATIVE_INFINITY, '-Infinity'],
  ])('prints %d as %s', (value, expected) => {
    expect(pythonFloat(value)).toBe(expected)
  })

  it('reads back as the same number', () => {
    fc.assert(fc.property(fc.double(), (value) => Object.is(Number(pythonFloat(value)), value)))
  })
})

describe('dumpsPython', () => {
  it('escapes what is not printable ASCII', () => {
    expect(quotePython('a"\\/\n\b\x01\x7fé😀\ud800')).toBe(
      '"a\\"\\\\/\\n\\b\\u0001\\u007f\\u00e9\\ud83d\\ude00\\ud800"',
    )
  })

  it('writes Python separators and ints', () => {
    const value = { a: [1, 2.5, -3, 2n ** 64n], b: { c: null, d: true, e: undefined }, f: new RawJson('[1.0]'), g: {} }
    expect(dumpsPython(value)).toBe(
      '{"a": [1, 2.5, -3, 18446744073709551616], "b": {"c": null, "d": true}, "f": [1.0], "g": {}}',
    )
    expect(() => dumpsPython({ a: () => 1 })).toThrow(TypeError)
  })

  it('is read back by JSON.parse', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        expect(JSON.stringify(JSON.parse(dumpsPython(value)))).toBe(JSON.stringify(value))
      }),
    )
  })
})

it.each([
  ['[1,1.0,1E2,-0,18446744073709551615,NaN]', '[1, 1.0, 100.0, 0, 18446744073709551615, NaN]'],
  ['{"b":"\u00e9","a":1,"b":null}', '{"b": null, "a": 1}'],
  ['{"1":[],"0":{"x":true}}', '{"1": [], "0": {"x": true}}'],
])('prints %s again as Python does', (text, expected) => {
  expect(dumpsNode(parseJson(text))).toBe(expected)
})

it.each([
  ['"it\'s"', "it's"],
  ['["it\'s", "a", "\\"\'", "\\u00e9\\n\\u00a0\\u200b"]', `["it's", 'a', '"\\'', '\u00e9\\n\\xa0\\u200b']`],
  ['[true,false,null,1e22,NaN,-Infinity,2]', '[True, False, None, 1e+22, nan, -inf, 2]'],
  ['{"a": [1.50]}', "{'a': [1.5]}"],
])('says %s as str() does', (text, expected) => {
  expect(strNode(parseJson(text))).toBe(expected)
})
