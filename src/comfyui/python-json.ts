/** Text as Python writes it: `json.dumps` with its defaults, `repr` and `str`. ComfyUI's answers are made of these. */

import { isFloatSource, type JsonNode, type JsonNumber, membersOf, numberSource, stringValue } from './raw-json.ts'

/** A scalar with Python's distinction of numbers: bigint is an int, number is a float. */
export type PythonScalar = bigint | number | string | boolean | null

/** JSON text that `dumpsPython` embeds as it is. */
export class RawJson {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** A float as `json.dumps` prints it: `-3.0`, `1e+16`, `NaN`. */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity'
  const sign = value < 0 || Object.is(value, -0) ? '-' : ''
  // Both languages print the shortest digits that read back; they differ in where the exponent begins.
  const [mantissa = '0', power = '0'] = Math.abs(value).toExponential().split('e')
  const digits = mantissa.replace('.', '')
  const exponent = Number(power)
  if (exponent < -4 || exponent >= 16) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : ''
    const magnitude = String(Math.abs(exponent)).padStart(2, '0')
    return `${sign}${digits[0]}${fraction}e${exponent < 0 ? '-' : '+'}${magnitude}`
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0')
  return `${sign}${whole}.${digits.slice(exponent + 1) || '0'}`
}

/** A JSON string as `json.dumps` prints it: everything but printable ASCII is escaped. */
export function quotePython(text: string): string {
  return JSON.stringify(text).replace(
    /[\x7f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/**
 * Plain values with Python's separators `, ` and `: `. Integral numbers print as ints, other numbers as floats; RawJson
 * is embedded; members that are undefined are left out. Throws TypeError for what JSON does not have.
 */
export function dumpsPython(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return quotePython(value)
    case 'number':
      return Number.isInteger(value) ? BigInt(value).toString() : pythonFloat(value)
    case 'bigint':
      return value.toString()
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      if (value instanceof RawJson) return value.text
      if (Array.isArray(value)) return `[${value.map(dumpsPython).join(', ')}]`
      return `{${Object.entries(value)
        .filter(([, child]) => child !== undefined)
        .map(([key, child]) => `${quotePython(key)}: ${dumpsPython(child)}`)
        .join(', ')}}`
    default:
      throw new TypeError(`JSON has no ${typeof value}`)
  }
}

/** A parsed value as Python would print it again: `1E2` becomes `100.0`, non-ASCII is escaped, repeated keys merge. */
export function dumpsNode(node: JsonNode): string {
  switch (node.kind) {
    case 'object':
      return `{${[...membersOf(node)].map(([key, value]) => `${quotePython(key)}: ${dumpsNode(value)}`).join(', ')}}`
    case 'array':
      return `[${node.items.map(dumpsNode).join(', ')}]`
    default:
      return dumpsScalar(scalarOf(node) ?? null)
  }
}

/** A scalar as `json.dumps` prints it. */
export function dumpsScalar(value: PythonScalar): string {
  return typeof value === 'number' ? pythonFloat(value) : dumpsPython(value)
}

/** The scalar that Python reads, or undefined for a container. */
export function scalarOf(node: JsonNode): PythonScalar | undefined {
  switch (node.kind) {
    case 'string':
      return stringValue(node)
    case 'number':
      return pythonNumber(node)
    case 'literal':
      return node.value
    default:
      return undefined
  }
}

/** A number as Python reads it: an int of any size or a float. */
export function pythonNumber(node: JsonNumber): bigint | number {
  const source = numberSource(node)
  return isFloatSource(source) ? Number(source) : BigInt(source)
}

/** `str(value)` of a scalar. */
export function strScalar(value: PythonScalar): string {
  return typeof value === 'string' ? value : reprScalar(value)
}

/** `repr(value)` of a scalar. */
export function reprScalar(value: PythonScalar): string {
  switch (typeof value) {
    case 'string':
      return reprString(value)
    case 'number':
      return pythonFloat(value).replace('NaN', 'nan').replace('Infinity', 'inf')
    case 'bigint':
      return value.toString()
    case 'boolean':
      return value ? 'True' : 'False'
    default:
      return 'None'
  }
}

/** `str(value)` of a parsed value. */
export function strNode(node: JsonNode): string {
  return node.kind === 'string' ? (stringValue(node) ?? '') : reprNode(node)
}

/** `repr(value)` of a parsed value. */
export function reprNode(node: JsonNode): string {
  switch (node.kind) {
    case 'object':
      return `{${[...membersOf(node)].map(([key, value]) => `${reprString(key)}: ${reprNode(value)}`).join(', ')}}`
    case 'array':
      return `[${node.items.map(reprNode).join(', ')}]`
    default:
      return reprScalar(scalarOf(node) ?? null)
  }
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }

function reprString(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const body = text.replace(/[\\'\p{C}\p{Zl}\p{Zp}\p{Zs}]/gu, (character) => {
    if (character === ' ') return character
    if (character === "'") return quote === "'" ? "\\'" : character
    const known = ESCAPES[character]
    if (known !== undefined) return known
    const code = character.codePointAt(0) ?? 0
    const hex = code.toString(16)
    if (code < 0x100) return `\\x${hex.padStart(2, '0')}`
    return code < 0x10000 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`
  })
  return quote + body + quote
}

/** What Python's `if` makes of a value; absent is false. */
export function isTruthy(node: JsonNode | undefined): boolean {
  switch (node?.kind) {
    case undefined:
      return false
    case 'object':
      return node.members.length > 0
    case 'array':
      return node.items.length > 0
    case 'string':
      return node.end - node.start > 2
    case 'number':
      return Number(numberSource(node)) !== 0
    case 'literal':
      return node.value === true
    default:
      return node satisfies never
  }
}
