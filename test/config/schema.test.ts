import { describe, expect, it } from 'vitest'
import { SettingsSchema, variables } from '../../src/config/schema.ts'
import { readValue } from '../../src/config/values.ts'

describe('settings schema', () => {
  it('shows every variable in exactly one section', () => {
    expect([...variables.keys()].sort()).toEqual(Object.keys(SettingsSchema.properties).sort())
  })

  it.each([...variables])('describes %s in words the loader and the pages understand', (_name, schema) => {
    const known = ['type', 'items', 'enum', 'default', 'description', 'examples', 'minimum', 'maximum', 'minLength']
    const others = Object.keys(schema).filter((word) => ![...known, 'pattern', 'secret'].includes(word))
    expect(others).toEqual([])
    expect(schema.description).toMatch(/^[A-Z`].*\.$/)
    if (schema.type === 'integer' || schema.type === 'number') {
      expect([schema.minimum, schema.maximum]).toEqual([expect.any(Number), expect.any(Number)])
    }
  })

  it.each([...variables].filter(([, schema]) => schema.default !== undefined))(
    'reads the default of %s back from its text',
    (_name, schema) => {
      expect(readValue(String(schema.default), schema)).toEqual({ value: schema.default })
    },
  )
})
