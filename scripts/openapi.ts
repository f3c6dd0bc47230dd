import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { createApp } from '../src/app.ts'
import { loadConfig } from '../src/config/load.ts'
import { openApiText } from '../src/routes/gateway/docs.ts'

/** The API reference of a gateway that is composed for this and never listens. */
export async function renderOpenApi(): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'comfyfleet-openapi-'))
  const config = loadConfig({ env: { STORE: 'memory', DATA_DIR: dir, EDITOR_PORT: '0' }, cwd: dir })
  const gateway = await createApp(config, { log: pino({ level: 'silent' }) })
  try {
    return await openApiText(gateway.app)
  } finally {
    await gateway.close()
    rmSync(dir, { recursive: true, force: true })
  }
}
