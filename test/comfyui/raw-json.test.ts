import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  BadUtf8Error,
  decodeUtf8,
  detach,
  JsonSyntaxError,
  JsonTooDeepError,
  JsonTooManyNodesError,
  member,
  membersOf,
  numberSource,
  parseJson,
  stringValue,
  toValue,
} from '../../src/comfyui/raw-json.ts'

const source = (text: string, key: string): string => {
  const node = member(parseJson(text), key)
  return node ? text.slice(node.start, node.end) : ''
}

describe('parseJson', () => {
  it('reads every JSON text as JSON.parse does', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom(undefined, 1, 2, '\t'), (text, indent) => {
        const spaced = JSON.stringify(JSON.parse(text), null, indent)
        for (const form of [text, spaced]) {
          expect(JSON.stringify(toValue(parseJson(form)))).toBe(JSON.stringify(JSON.parse(form)))
        }
      }),
    )
  })

  it('accepts and refuses exactly what JSON.parse does, apart from NaN and Infinity', () => {
    const pieces = [
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      '"a"',
      '1',
      '-',
      '.',
      'e',
      '0',
      'true',
      'null',
      ' ',
      '\n',
      '\u0001',
      '\ufeff',
      'u00e9',
      '\\u12',
    ] // prettier-ignore
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 12 }), (parts) => {
        const text = parts.join('')
        let expected: string | undefined
        try {
          expected = JSON.stringify(JSON.parse(text))
        } catch {
          expect(() => parseJson(text)).toThrow(JsonSyntaxError)
          return
        }
        expect(JSON.stringify(toValue(parseJson(text)))).toBe(expected)
      }),
      { numRuns: 2000 },
    )
  })

  it('meets random text with nothing but its own errors', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 50 }), (text) => {
        try {
          parseJson(text)
        } catch (error) {
          expect(error).toBeInstanceOf(JsonSyntaxError)
        }
      }),
    )
  })

  it.each(['18446744073709551615', '1.0', '-0', '1E400', 'NaN', 'Infinity', '-Infinity'])(
    'keeps the source of %s',
    (number) => {
      expect(source(`{"seed":  ${number} }`, 'seed')).toBe(number)
    },
  )

  it('keeps integer-like keys in their order', () => {
    const graph = parseJson('{"10": 1, "9": 2, "a": 3, "1": 4}')
    expect(graph.kind === 'object' && [...membersOf(graph).keys()]).toEqual(['10', '9', 'a', '1'])
  })

  it('lets the last of repeated keys count, in the place of the first', () => {
    const node = parseJson('{"a": 1, "b": 2, "a": 3}')
    expect(toValue(member(node, 'a') ?? node)).toBe(3)
    expect(node.kind === 'object' && [...membersOf(node).keys()]).toEqual(['a', 'b'])
  })

  it('treats __proto__ as a key like any other', () => {
    const value = toValue(parseJson('{"__proto__": {"admin": true}}')) as Record<string, unknown>
    expect(Object.keys(value)).toEqual(['__proto__'])
    expect(value.admin).toBeUndefined()
  })

  it.each([
    ['', 0],
    ['{} x', 3],
    ['\ufeff{}', 0],
    ['[1,]', 3],
    ['{"a" 1}', 5],
    ['{"a":1,}', 7],
    ['"a\nb"', 2],
    ['"abc', 0],
    ['"\\x"', 1],
    ['"\\u12g4"', 1],
    ['01', 1],
    ['1.', 1],
    ['-', 0],
    ['nul', 0],
    ['[', 1],
  ])('names the offset of the mistake in %j', (text, offset) => {
    try {
      parseJson(text)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(JsonSyntaxError)
      expect((error as JsonSyntaxError).offset).toBe(offset)
    }
  })

  it('refuses nesting beyond its limit, at once and without a stack', () => {
    expect(() => parseJson('['.repeat(10_000))).toThrow(JsonTooDeepError)
    expect(() => parseJson('{"a":'.repeat(10_000))).toThrow(JsonTooDeepError)
    const deep = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
    expect(() => parseJson(deep(501))).toThrow(JsonTooDeepError)
    expect(parseJson(deep(500)).kind).toBe('array')
    expect(parseJson(deep(200_000), { maxDepth: 200_000 }).end).toBe(400_000)
  })

  it('refuses more values than its limit', () => {
    expect(() => parseJson('[1,2,3]', { maxNodes: 3 })).toThrow(JsonTooManyNodesError)
    expect(parseJson('[1,2,3]', { maxNodes: 4 }).kind).toBe('array')
  })

  it('refuses integers that Python refuses for their length', () => {
    expect(() => parseJson('1'.repeat(4301))).toThrow(JsonSyntaxError)
    expect(parseJson(`-${'1'.repeat(4300)}`).kind).toBe('number')
    expect(parseJson(`0.${'1'.repeat(5000)}`).kind).toBe('number')
  })

  it('reads 100 MB in one string without copying it', () => {
    const text = decodeUtf8(Buffer.from(`{"prompt": "${'x'.repeat(100_000_000)}", "client_id": "a"}`))
    const before = process.memoryUsage().heapUsed
    const started = performance.now()
    const node = parseJson(text)
    expect(stringValue(member(node, 'client_id'))).toBe('a')
    expect(performance.now() - started).toBeLessThan(3000)
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(20_000_000)
  })

  it('reads a graph of 200,000 nodes, and twice the text in about twice the time', () => {
    const graph = (nodes: number): string => {
      const parts: string[] = []
      for (let id = 0; id < nodes; id++)
        parts.push(`"${id}": {"class_type": "A", "inputs": {"a": ["${id - 1}", 0], "b": 1.5}}`)
      return `{${parts.join(', ')}}`
    }
    const measure = (nodes: number): number => {
      const text = graph(nodes)
      const started = performance.now()
      parseJson(text)
      return performance.now() - started
    }
    measure(20_000)
    const half = measure(100_000)
    const whole = measure(200_000)
    expect(whole).toBeLessThan(Math.max(half * 8, 1000))
    expect(whole).toBeLessThan(6000)
  })
})

describe('strings', () => {
  it('decodes escapes, lone surrogates included', () => {
    expect(stringValue(parseJson('"a\\u00e9\\n\\ud83d\\ude00\\ud800"'))).toBe('aé\n😀\ud800')
  })

  it('is undefined for anything but a string', () => {
    expect(stringValue(parseJson('1'))).toBeUndefined()
    expect(stringValue(undefined)).toBeUndefined()
    expect(member(parseJson('[1]'), 'a')).toBeUndefined()
    expect(member(parseJson('{"a": 1}'), 'b')).toBeUndefined()
  })

  it('detaches a copy of any string', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => detach(text) === text))
    expect(detach('\ud800é')).toBe('\ud800é')
  })
})

describe('decodeUtf8', () => {
  it('refuses bytes that are not UTF-8', () => {
    expect(() => decodeUtf8(Buffer.from([0x22, 0xff, 0x22]))).toThrow(BadUtf8Error)
    expect(() => decodeUtf8(Buffer.from([0xed, 0xa0, 0x80]))).toThrow(BadUtf8Error)
  })

  it('decodes a view into a larger buffer and keeps a byte order mark for the parser to refuse', () => {
    const bytes = new Uint8Array(Buffer.from('xx"é"xx')).subarray(2, 6)
    expect(decodeUtf8(bytes)).toBe('"é"')
    expect(() => parseJson(decodeUtf8(Buffer.from('\ufeff{}')))).toThrow(JsonSyntaxError)
  })
})

it('gives the source of numbers', () => {
  const node = parseJson(' -12.50e+3 ')
  expect(node.kind === 'number' && numberSource(node)).toBe('-12.50e+3')
})
