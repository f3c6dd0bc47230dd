import { Value } from 'typebox/value'
import type { VariableSchema } from './schema.ts'

const truths = new Set(['true', '1', 'yes', 'on'])
const untruths = new Set(['false', '0', 'no', 'off'])

export type ValueResult = { value: string | number | boolean | string[] } | { problem: string }

/**
 * Turns a variable's text into the value its schema wants. A problem is the end of a sentence that starts with the
 * variable's name; it repeats the text unless the variable is secret. Secrets keep surrounding spaces.
 */
export function readValue(text: string, schema: VariableSchema): ValueResult {
  const value = convert(schema.secret === true ? text : text.trim(), schema)
  if (value !== undefined && Value.Check(schema, value)) return { value }
  return { problem: `must be ${expected(schema)}${schema.secret === true ? '' : `, not ${JSON.stringify(text)}`}` }
}

function convert(text: string, schema: VariableSchema): string | number | boolean | string[] | undefined {
  switch (schema.type) {
    case 'integer':
      return /^[+-]?\d+$/.test(text) ? Number(text) : undefined
    case 'number':
      return /^[+-]?(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : undefined
    case 'boolean':
      if (truths.has(text.toLowerCase())) return true
      return untruths.has(text.toLowerCase()) ? false : undefined
    case 'array':
      return text.split(/[\s,]+/).filter((item) => item !== '')
    default:
      return schema.enum === undefined ? text : text.toLowerCase()
  }
}

/** What a value has to be, in words: `a whole number from 0 to 65535`. */
export function expected(schema: VariableSchema): string {
  switch (schema.type) {
    case 'integer':
      return `a whole number${range(schema)}`
    case 'number':
      return `a number${range(schema)}`
    case 'boolean':
      return 'true or false'
    case 'array':
      return 'a list, separated by commas or spaces'
    default:
      if (schema.enum !== undefined) return oneOf(schema.enum)
      if (schema.minLength !== undefined) return `text of at least ${schema.minLength} characters`
      return schema.pattern === undefined ? 'text' : 'text without a colon'
  }
}

const range = ({ minimum, maximum }: VariableSchema): string =>
  minimum === undefined || maximum === undefined ? '' : ` from ${minimum} to ${maximum}`

const oneOf = (words: readonly string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
