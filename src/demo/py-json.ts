/** JSON as Python's `json` reads and writes it: integers of any size, `1.0` apart from `1`, key order kept, NaN allowed. */

/** A number as Python would print it. */
export class PyNumber {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  get isInteger(): boolean {
    return /^-?\d+$/.test(this.text)
  }
  get value(): number {
    return Number(this.text)
  }
}

/** What parsing gives. Objects are maps, since JavaScript objects put integer-like keys (node ids) first. */
export type PyValue = null | boolean | string | PyNumber | PyValue[] | PyObject
export type PyObject = Map<string, PyValue>

/** What can be written: parsed values, and plain objects whose keys are not integer-like. JavaScript numbers print as they are. */
export type PyDumpable =
  | null
  | boolean
  | string
  | number
  | PyNumber
  | readonly PyDumpable[]
  | ReadonlyMap<string, PyDumpable>
  | { readonly [key: string]: PyDumpable | undefined }

/** Not JSON, or nested deeper than Python's recursion limit. */
export class PyJsonError extends Error {}

const MAX_DEPTH = 900

/** An integer that Python prints without a point. */
export const pyInt = (value: number | bigint): PyNumber => new PyNumber(String(value))

/** A float that Python prints with a point or an exponent. */
export const pyFloat = (value: number): PyNumber => new PyNumber(floatText(value))

export const isPyObject = (value: unknown): value is PyObject => value instanceof Map

/** Parses one JSON text. Throws PyJsonError. */
export function parsePyJson(text: string): PyValue {
  const reader = new Reader(text)
  const value = reader.value(0)
  reader.end()
  return value
}

/** Writes with Python's default separators and ASCII only. Undefined members are left out. */
export function dumpPyJson(value: PyDumpable): string {
  if (value === null) return 'null'
  switch (typeof value) {
    case 'boolean':
      return value ? 'true' : 'false'
    case 'number':
      return Number.isFinite(value) ? String(value) : floatText(value)
    case 'string':
      return stringText(value)
    default:
      break
  }
  if (value instanceof PyNumber) return value.text
  if (isList(value)) return `[${value.map(dumpPyJson).join(', ')}]`
  // What is neither list, number nor map is a plain object by the type above.
  const entries =
    value instanceof Map ? value.entries() : Object.entries(value as Record<string, PyDumpable | undefined>)
  const parts: string[] = []
  for (const [key, member] of entries) {
    if (member !== undefined) parts.push(`${stringText(key)}: ${dumpPyJson(member)}`)
  }
  return `{${parts.join(', ')}}`
}

/** `str(value)` of Python, as its error messages show values. */
export function pyStr(value: PyValue): string {
  return typeof value === 'string' ? value : pyRepr(value)
}

/** `repr(value)` of Python. */
export function pyRepr(value: PyValue): string {
  if (value === null) return 'None'
  if (value === true) return 'True'
  if (value === false) return 'False'
  if (value instanceof PyNumber) return value.text
  if (typeof value === 'string') {
    const quote = value.includes("'") && !value.includes('"') ? '"' : "'"
    const escaped = value
      .replaceAll('\\', '\\\\')
      .replaceAll('\n', '\\n')
      .replaceAll('\r', '\\r')
      .replaceAll('\t', '\\t')
    return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote
  }
  if (Array.isArray(value)) return `[${value.map(pyRepr).join(', ')}]`
  return `{${[...value].map(([key, member]) => `${pyRepr(key)}: ${pyRepr(member)}`).join(', ')}}`
}

/** Array.isArray does not narrow readonly arrays. */
const isList = (value: PyDumpable): value is readonly PyDumpable[] => Array.isArray(value)

function floatText(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity'
  if (Object.is(value, -0)) return '-0.0'
  const size = Math.abs(value)
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    const [digits = '', exponent = ''] = value.toExponential().split('e')
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`
  }
  const text = String(value)
  return text.includes('.') ? text : `${text}.0`
}

// Python's ensure_ascii also escapes DEL's neighbours above 0x7e; JSON.stringify escapes only what JSON demands.
const NOT_ASCII = /[\u007f-\uffff]/g
const stringText = (value: string): string =>
  JSON.stringify(value).replace(NOT_ASCII, (char) =>
    char === '\u007f' ? char : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const SPACE = /[ \t\n\r]*/y
const CONSTANTS: ReadonlyArray<[string, PyValue]> = [
  ['true', true],
  ['false', false],
  ['null', null],
  ['NaN', new PyNumber('NaN')],
  ['Infinity', new PyNumber('Infinity')],
  ['-Infinity', new PyNumber('-Infinity')],
]

class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  end(): void {
    this.#take(SPACE)
    if (this.#at !== this.#text.length) throw new PyJsonError('Extra data')
  }

  value(depth: number): PyValue {
    if (depth > MAX_DEPTH) throw new PyJsonError('maximum recursion depth exceeded')
    this.#take(SPACE)
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth)
      case '[':
        return this.#array(depth)
      case '"':
        return this.#string()
      default:
        return this.#scalar()
    }
  }

  #object(depth: number): PyObject {
    const object: PyObject = new Map()
    this.#at += 1
    if (this.#sees('}')) return object
    do {
      this.#take(SPACE)
      const key = this.#string()
      if (!this.#sees(':')) throw new PyJsonError("Expecting ':' delimiter")
      object.set(key, this.value(depth + 1))
    } while (this.#sees(','))
    if (!this.#sees('}')) throw new PyJsonError("Expecting ',' delimiter")
    return object
  }

  #array(depth: number): PyValue[] {
    const array: PyValue[] = []
    this.#at += 1
    if (this.#sees(']')) return array
    do array.push(this.value(depth + 1))
    while (this.#sees(','))
    if (!this.#sees(']')) throw new PyJsonError("Expecting ',' delimiter")
    return array
  }

  #string(): string {
    if (this.#text[this.#at] !== '"') throw new PyJsonError('Expecting a string')
    let end = this.#at + 1
    while (end < this.#text.length && this.#text[end] !== '"') end += this.#text[end] === '\\' ? 2 : 1
    const raw = this.#text.slice(this.#at, end + 1)
    this.#at = end + 1
    try {
      // A JSON string parses to a string.
      return JSON.parse(raw) as string
    } catch {
      throw new PyJsonError('Invalid string')
    }
  }

  #scalar(): PyValue {
    for (const [word, value] of CONSTANTS) {
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length
        return value
      }
    }
    const raw = this.#take(NUMBER)
    if (!raw) throw new PyJsonError('Expecting value')
    return /[.eE]/.test(raw) ? pyFloat(Number(raw)) : new PyNumber(raw)
  }

  #sees(char: string): boolean {
    this.#take(SPACE)
    if (this.#text[this.#at] !== char) return false
    this.#at += 1
    return true
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0] ?? ''
    this.#at += found.length
    return found
  }
}
