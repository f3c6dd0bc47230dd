import { rmSync } from 'node:fs'

// Without this, the output of a source file that was renamed stays in dist and can still be imported.
for (const folder of ['dist', 'frontend/dist']) {
  rmSync(new URL(`../${folder}`, import.meta.url), { recursive: true, force: true })
}
