/**
 * JSON as Python reads it, over text, without losing a byte: nodes carry offsets into the text instead of values.
 * `JSON.parse` rounds 64-bit seeds, turns `1.0` into `1`, reorders integer-like keys and refuses `NaN`.
 */

import { isUtf8 } from 'node:buffer'

/** A JSON value where it stands: `text.slice(start, end)` is its source. */
export type JsonNode = JsonObject | JsonArray | JsonString | JsonNumber | JsonLiteral

interface Span {
  readonly start: number
  readonly end: number
}

export interface JsonObject extends Span {
  readonly kind: 'object'
  /** In the order of the text, repeated keys included; of these the last counts. */
  readonly members: readonly JsonMember[]
}

export interface JsonMember {
  /** Decoded. */
  readonly key: string
  /** Offset of the key's opening quote. */
  readonly keyStart: number
  /** Offset behind the key's closing quote. */
  readonly keyEnd: number
  readonly value: JsonNode
}

export interface JsonArray extends Span {
  readonly kind: 'array'
  readonly items: readonly JsonNode[]
}

/** Decoded on demand (`stringValue`), so a body of one giant string costs no second copy. */
export interface JsonString extends Span {
  readonly kind: 'string'
  readonly text: string
}

/** Also `NaN`, `Infinity` and `-Infinity`, which Python writes and reads. */
export interface JsonNumber extends Span {
  readonly kind: 'number'
  readonly text: string
}

export interface JsonLiteral extends Span {
  readonly kind: 'literal'
  readonly value: true | false | null
}

export interface ParseOptions {
  /** Containers inside each other; 500 by default (Python's own parser gives up near 1000). */
  maxDepth?: number
  /** Values in all; 5,000,000 by default, about 100 bytes of memory each. */
  maxNodes?: number
}

/** The text is not JSON as Python reads it. */
export class JsonSyntaxError extends Error {
  /** Offset in UTF-16 units. */
  readonly offset: number

  constructor(problem: string, offset: number) {
    super(`${problem} at offset ${offset}`)
    this.name = new.target.name
    this.offset = offset
  }
}

/** Containers are nested deeper than `maxDepth`. */
export class JsonTooDeepError extends JsonSyntaxError {}

/** The text holds more values than `maxNodes`. */
export class JsonTooManyNodesError extends JsonSyntaxError {}

/** A body is not UTF-8. */
export class BadUtf8Error extends Error {
  constructor() {
    super('The body is not valid UTF-8')
    this.name = new.target.name
  }
}

/** Decodes a body. Throws BadUtf8Error. A byte order mark stays, and `parseJson` refuses it as Python does. */
export function decodeUtf8(bytes: Uint8Array): string {
  if (!isUtf8(bytes)) throw new BadUtf8Error()
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
type OpenObject = Mutable<Omit<JsonObject, 'members'>> & { readonly members: Mutable<JsonMember>[] }
type OpenArray = Mutable<Omit<JsonArray, 'items'>> & { readonly items: JsonNode[] }

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y
const INTEGER_DIGITS = 4300
const PENDING: JsonNode = { kind: 'literal', start: 0, end: 0, value: null }

/**
 * Reads one JSON text in a single pass, without recursion and in linear time. Throws JsonSyntaxError (with the offset),
 * JsonTooDeepError or JsonTooManyNodesError. Integers of more than 4300 digits are refused, as by Python.
 */
export function parseJson(text: string, options: ParseOptions = {}): JsonNode {
  return new Parser(text, options.maxDepth ?? 500, options.maxNodes ?? 5_000_000).parse()
}

class Parser {
  readonly #text: string
  readonly #maxDepth: number
  readonly #number = new RegExp(NUMBER)
  /** Keys repeat by the thousand (`class_type`, `inputs`): one string each instead of one per node. */
  readonly #keys = new Map<string, string>()
  readonly #open: (OpenObject | OpenArray)[] = []
  #nodesLeft: number
  #at = 0

  constructor(text: string, maxDepth: number, maxNodes: number) {
    this.#text = text
    this.#maxDepth = maxDepth
    this.#nodesLeft = maxNodes
  }

  parse(): JsonNode {
    for (;;) {
      let node = this.#startValue()
      if (node === undefined) continue
      for (;;) {
        const parent = this.#open.at(-1)
        if (parent === undefined) return this.#finish(node)
        if (this.#attach(parent, node)) break
        this.#open.pop()
        node = parent
      }
    }
  }

  #finish(node: JsonNode): JsonNode {
    this.#skipSpace()
    if (this.#at < this.#text.length) throw new JsonSyntaxError('Extra data', this.#at)
    return node
  }

  /** Reads a scalar or an empty container; undefined when a container was opened and its first value comes next. */
  #startValue(): JsonNode | undefined {
    this.#skipSpace()
    const start = this.#at
    const text = this.#text
    if (this.#nodesLeft-- <= 0) throw new JsonTooManyNodesError('Too many values', start)
    switch (text.charCodeAt(start)) {
      case 0x22:
        this.#at = this.#endOfString(start)
        return { kind: 'string', start, end: this.#at, text }
      case 0x7b: {
        const node: OpenObject = { kind: 'object', start, end: 0, members: [] }
        this.#enter(node)
        if (this.#text.charCodeAt(this.#at) === 0x7d) return this.#leave(node)
        this.#readKey(node)
        return undefined
      }
      case 0x5b: {
        const node: OpenArray = { kind: 'array', start, end: 0, items: [] }
        this.#enter(node)
        return this.#text.charCodeAt(this.#at) === 0x5d ? this.#leave(node) : undefined
      }
      case 0x74:
        return this.#literal('true', true)
      case 0x66:
        return this.#literal('false', false)
      case 0x6e:
        return this.#literal('null', null)
      default:
        return this.#readNumber(start)
    }
  }

  #enter(node: OpenObject | OpenArray): void {
    if (this.#open.length >= this.#maxDepth) throw new JsonTooDeepError('Nested too deeply', node.start)
    this.#open.push(node)
    this.#at++
    this.#skipSpace()
  }

  #leave(node: OpenObject | OpenArray): JsonNode {
    this.#open.pop()
    node.end = ++this.#at
    return node
  }

  /** Puts a value into its container. False when the container ends behind it. */
  #attach(parent: OpenObject | OpenArray, node: JsonNode): boolean {
    const isObject = parent.kind === 'object'
    if (isObject) {
      const member = parent.members.at(-1)
      if (member !== undefined) member.value = node
    } else parent.items.push(node)
    this.#skipSpace()
    const code = this.#text.charCodeAt(this.#at)
    if (code === (isObject ? 0x7d : 0x5d)) {
      parent.end = ++this.#at
      return false
    }
    if (code !== 0x2c) throw new JsonSyntaxError("Expected ',' or the end of the container", this.#at)
    this.#at++
    if (isObject) {
      this.#skipSpace()
      this.#readKey(parent)
    }
    return true
  }

  #readKey(node: OpenObject): void {
    const keyStart = this.#at
    if (this.#text.charCodeAt(keyStart) !== 0x22) throw new JsonSyntaxError('Expected a key in double quotes', keyStart)
    const keyEnd = this.#endOfString(keyStart)
    this.#at = keyEnd
    this.#skipSpace()
    if (this.#text.charCodeAt(this.#at) !== 0x3a) throw new JsonSyntaxError("Expected ':'", this.#at)
    this.#at++
    node.members.push({ key: this.#key(keyStart, keyEnd), keyStart, keyEnd, value: PENDING })
  }

  #key(start: number, end: number): string {
    const key = decodeString(this.#text.slice(start, end))
    if (key.length > 40) return key
    const known = this.#keys.get(key)
    if (known !== undefined) return known
    if (this.#keys.size < 1000) this.#keys.set(key, key)
    return key
  }

  #literal(word: string, value: true | false | null): JsonLiteral {
    const start = this.#at
    if (!this.#text.startsWith(word, start)) throw new JsonSyntaxError('Expected a value', start)
    this.#at += word.length
    return { kind: 'literal', start, end: this.#at, value }
  }

  #readNumber(start: number): JsonNumber {
    const text = this.#text
    for (const word of ['NaN', 'Infinity', '-Infinity']) {
      if (text.startsWith(word, start)) {
        this.#at += word.length
        return { kind: 'number', start, end: this.#at, text }
      }
    }
    this.#number.lastIndex = start
    if (!this.#number.test(text)) throw new JsonSyntaxError('Expected a value', start)
    const end = this.#number.lastIndex
    if (end - start > INTEGER_DIGITS && /^-?[0-9]{4301,}$/.test(text.slice(start, end))) {
      throw new JsonSyntaxError(`An integer of more than ${INTEGER_DIGITS} digits`, start)
    }
    this.#at = end
    return { kind: 'number', start, end, text }
  }

  /** Offset behind the closing quote of the string that opens at `start`. */
  #endOfString(start: number): number {
    const text = this.#text
    const length = text.length
    for (let at = start + 1; at < length; at++) {
      const code = text.charCodeAt(at)
      if (code === 0x22) return at + 1
      if (code < 0x20) throw new JsonSyntaxError('Control character in a string', at)
      if (code === 0x5c) at = this.#endOfEscape(at)
    }
    throw new JsonSyntaxError('Unterminated string', start)
  }

  /** Offset of the last character of the escape that starts with the backslash at `at`. */
  #endOfEscape(at: number): number {
    const text = this.#text
    switch (text.charCodeAt(at + 1)) {
      case 0x22: // "
      case 0x5c: // \
      case 0x2f: // /
      case 0x62: // b
      case 0x66: // f
      case 0x6e: // n
      case 0x72: // r
      case 0x74: // t
        return at + 1
      case 0x75: // u
        for (let digit = at + 2; digit < at + 6; digit++) {
          if (!isHexDigit(text.charCodeAt(digit))) throw new JsonSyntaxError('Invalid \\u escape', at)
        }
        return at + 5
      default:
        throw new JsonSyntaxError('Invalid escape', at)
    }
  }

  #skipSpace(): void {
    const text = this.#text
    for (;;) {
      const code = text.charCodeAt(this.#at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return
      this.#at++
    }
  }
}

const isHexDigit = (code: number): boolean =>
  (code >= 0x30 && code <= 0x39) || (code >= 0x41 && code <= 0x46) || (code >= 0x61 && code <= 0x66)

/** The value of a JSON string's source, quotes included. */
function decodeString(source: string): string {
  // The parser has checked the source, so JSON.parse cannot fail; lone surrogates pass through both.
  return source.includes('\\') ? (JSON.parse(source) as string) : source.slice(1, -1)
}

/** The value of an object's member; of repeated keys the last, as in Python. Undefined for anything but an object. */
export function member(node: JsonNode | undefined, key: string): JsonNode | undefined {
  if (node?.kind !== 'object') return undefined
  for (let index = node.members.length - 1; index >= 0; index--) {
    const candidate = node.members[index]
    if (candidate?.key === key) return candidate.value
  }
  return undefined
}

/** An object's members as Python's dict has them: first place, last value. For objects that are asked more than once. */
export function membersOf(node: JsonObject): Map<string, JsonNode> {
  const members = new Map<string, JsonNode>()
  for (const { key, value } of node.members) members.set(key, value)
  return members
}

/** The text of a string, or undefined when the node is none. May share memory with the parsed text: see `detach`. */
export function stringValue(node: JsonNode | undefined): string | undefined {
  return node?.kind === 'string' ? decodeString(node.text.slice(node.start, node.end)) : undefined
}

/** The source of a number. */
export const numberSource = (node: JsonNumber): string => node.text.slice(node.start, node.end)

/** True for what Python reads as a float (`1.0`, `1e3`, `NaN`), false for an int. */
export const isFloatSource = (source: string): boolean => /[.eEN]|In/.test(source)

/**
 * A plain value for reading. Objects have no prototype, so a key `__proto__` is a key like any other; numbers are
 * JavaScript numbers, so large integers are rounded. Recursion is bounded by the parser's `maxDepth`.
 */
export function toValue(node: JsonNode): unknown {
  switch (node.kind) {
    case 'object': {
      const value: Record<string, unknown> = Object.create(null)
      for (const { key, value: child } of node.members) value[key] = toValue(child)
      return value
    }
    case 'array':
      return node.items.map(toValue)
    case 'string':
      return stringValue(node)
    case 'number':
      return Number(numberSource(node))
    case 'literal':
      return node.value
    default:
      return node satisfies never
  }
}

/** A copy of a string that does not keep the large text alive that it was cut from. */
export function detach(text: string): string {
  // V8 represents a slice by a pointer into its parent: an id of 36 characters would hold a body of 100 MB.
  const encoding = /^[\0-\xff]*$/.test(text) ? 'latin1' : 'utf16le'
  return Buffer.from(text, encoding).toString(encoding)
}
