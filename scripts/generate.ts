import { readFileSync, writeFileSync } from 'node:fs'
import { generatedFiles } from './generated-files.ts'

/** Writes the generated files, or with `--check` exits 1 when a committed copy is stale. */
const isCheck = process.argv.includes('--check')
const root = new URL('../', import.meta.url)
const stale: string[] = []

for (const { path, render } of generatedFiles) {
  const file = new URL(path, root)
  const text = await render()
  if (read(file) === text) continue
  stale.push(path)
  if (!isCheck) writeFileSync(file, text)
}

if (stale.length > 0) console.log(`${isCheck ? 'Stale (npm run generate)' : 'Written'}: ${stale.join(', ')}`)
if (isCheck && stale.length > 0) process.exitCode = 1

function read(file: URL): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
