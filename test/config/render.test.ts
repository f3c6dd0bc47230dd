import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { describe, expect, it } from 'vitest'
import { generatedFiles } from '../../scripts/generated-files.ts'
import { renderEnvExample, renderSettingsPage } from '../../src/config/render.ts'
import { variables } from '../../src/config/schema.ts'

describe('generated files', () => {
  it.each(generatedFiles)('$path is fresh (else: npm run generate)', async ({ path, render }) => {
    expect(readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')).toBe(await render())
  })

  it('offers every variable in env.example, and sets none', () => {
    expect(parseEnv(renderEnvExample())).toEqual({})
    const uncommented = renderEnvExample().replaceAll(/^#([A-Z_]+=)/gm, '$1')
    expect(Object.keys(parseEnv(uncommented)).sort()).toEqual([...variables.keys()].sort())
  })

  it('has a table row for every variable on the settings page', () => {
    const page = renderSettingsPage()
    for (const name of variables.keys()) expect(page).toContain(`\n| \`${name}\` | `)
  })
})
