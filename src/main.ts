import closeWithGrace from 'close-with-grace'
import { pino } from 'pino'
import { createApp } from './app.ts'
import { ConfigError } from './config/config-error.ts'
import { loadConfig } from './config/load.ts'
import { RecentLog } from './recent-log.ts'

/** The process around one gateway: settings, app, listen, stop. */
async function main(): Promise<void> {
  const config = loadConfig({ env: process.env, cwd: process.cwd() })
  const recentLog = new RecentLog()
  // The logger's own level decides first; the second stream is what operators see in a client.
  const streams = pino.multistream([
    { level: 'trace', stream: pino.destination({ dest: 1, sync: true }) },
    { level: 'info', stream: recentLog },
  ])
  const log = pino({ level: config.LOG_LEVEL }, streams)
  const gateway = await createApp(config, { log, recentLog })
  closeWithGrace({ delay: config.SHUTDOWN_SECONDS * 1_000 }, async ({ signal, err }) => {
    if (err) log.fatal({ err }, 'stopping after an unexpected error')
    else log.info({ signal }, 'stopping')
    await gateway.close()
  })
  const url = await gateway.listen()
  log.info(
    { url, editor: gateway.editorUrl, store: config.STORE, workers: gateway.workers().length },
    'ComfyFleet is ready',
  )
}

main().catch((error: unknown) => {
  // The message of a settings error is the whole list of what is wrong; a trace would bury it.
  const isForPeople = error instanceof ConfigError || (error instanceof Error && 'isForPeople' in error)
  process.stderr.write(`${isForPeople ? error.message : error instanceof Error ? error.stack : String(error)}\n`)
  process.exit(1)
})
