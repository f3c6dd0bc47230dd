import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type JsonObject, member, parseJson } from '../../src/comfyui/raw-json.ts'
import { applyEdits, Splicer } from '../../src/comfyui/raw-json-edit.ts'

const parseObject = (text: string): JsonObject => {
  const node = parseJson(text)
  if (node.kind !== 'object') throw new Error('not an object')
  return node
}

describe('Splicer', () => {
  it('changes nothing without edits', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        parseJson(text)
        return new Splicer(text).apply() === text
      }),
    )
  })

  it('leaves all other bytes as they are', () => {
    const text = '{"prompt" : {"10":{"seed":18446744073709551615,"cfg":1.0},"2":{"x":NaN}} ,"client_id":"a", "n" : 1e2}'
    const root = parseObject(text)
    const changed = new Splicer(text).setMember(root, 'client_id', '"g"').setMember(root, 'prompt_id', '"p"').apply()
    expect(changed).toBe(
      '{"prompt" : {"10":{"seed":18446744073709551615,"cfg":1.0},"2":{"x":NaN}} ,"client_id":"g", "n" : 1e2, "prompt_id": "p"}',
    )
  })

  it.each([
    ['{"a":1, "b":2, "c":3}', ['a'], '{"b":2, "c":3}'],
    ['{"a":1, "b":2, "c":3}', ['b'], '{"a":1, "c":3}'],
    ['{"a":1, "b":2, "c":3}', ['c'], '{"a":1, "b":2}'],
    ['{"a":1, "b":2, "c":3}', ['a', 'b'], '{"c":3}'],
    ['{"a":1, "b":2, "c":3}', ['b', 'c'], '{"a":1}'],
    ['{"a":1, "b":2, "c":3}', ['a', 'c'], '{"b":2}'],
    ['{ "a":1 }', ['a'], '{  }'],
    ['{"a":1, "b":2, "a":3}', ['a'], '{"b":2}'],
    ['{"a":1}', ['x'], '{"a":1}'],
    ['{}', ['x'], '{}'],
  ])('removes from %s the members %j', (text, keys, expected) => {
    const root = parseObject(text)
    const splicer = new Splicer(text)
    for (const key of keys) splicer.removeMember(root, key)
    expect(splicer.apply()).toBe(expected)
  })

  it('appends to an empty object and to one whose members all go', () => {
    expect(new Splicer('{}').setMember(parseObject('{}'), 'é', '1').apply()).toBe('{"\\u00e9": 1}')
    const text = '{ "a": 1, "b": 2 }'
    const root = parseObject(text)
    expect(new Splicer(text).removeMember(root, 'a').removeMember(root, 'b').setMember(root, 'c', '3').apply()).toBe(
      '{ "c": 3 }',
    )
  })

  it('replaces values and renames members in place', () => {
    const text = '{"old": [1, {"a": "x"}]}'
    const root = parseObject(text)
    const list = member(root, 'old')
    const inner = list?.kind === 'array' ? list.items[1] : undefined
    const splicer = new Splicer(text).renameMember(root, 'old', 'new')
    expect(splicer.replace(member(inner, 'a') ?? root, '"y"').apply()).toBe('{"new": [1, {"a": "y"}]}')
  })

  it('does to any object what the same steps do to a plain one', () => {
    const key = fc.constantFrom('a', 'b', 'c', 'd', '1', '2')
    const step = fc.record({ key, json: fc.option(fc.json(), { nil: undefined }) })
    fc.assert(
      fc.property(fc.dictionary(key, fc.jsonValue()), fc.array(step), fc.boolean(), (start, steps, pretty) => {
        const text = JSON.stringify(start, null, pretty ? 2 : undefined)
        const root = parseObject(text)
        const splicer = new Splicer(text)
        const expected = new Map<string, unknown>(Object.entries(JSON.parse(text)))
        for (const { key, json } of steps) {
          if (json === undefined) {
            splicer.removeMember(root, key)
            expected.delete(key)
          } else {
            splicer.setMember(root, key, json)
            expected.set(key, JSON.parse(json))
          }
        }
        const changed = JSON.parse(splicer.apply()) as Record<string, unknown>
        expect(new Map(Object.entries(changed))).toEqual(expected)
      }),
    )
  })

  it('refuses edits that overlap', () => {
    const text = '{"a": {"b": 1}}'
    const root = parseObject(text)
    const inner = member(root, 'a') as JsonObject
    const splicer = new Splicer(text).setMember(inner, 'b', '2').removeMember(root, 'a')
    expect(() => splicer.apply()).toThrow(RangeError)
    expect(() => applyEdits('ab', [{ start: 1, end: 3, text: '' }])).toThrow(RangeError)
  })
})
