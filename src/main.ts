import closeWithGrace from 'close-with-grace'
import { pino } from 'pino'
import { createApp } from './app.ts'
import { ConfigError } from './config/config-error.ts'
import { loadConfig } from './config/load.ts'
import { RecentLog } from './recent-log.ts'
import { StoreOpenError } from './store/open-error.ts'

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
  const onLost = (): never => {
    log.fatal('another gateway has taken the store over')
    process.exit(1)
  }
  const gateway = await createApp(config, { log, recentLog, onLost })
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
  // The message is the whole of what is wrong, for whoever starts it; a trace would bury it.
  const isForPeople = error instanceof ConfigError || error instanceof StoreOpenError
  process.stderr.write(`${isForPeople ? error.message : error instanceof Error ? error.stack : String(error)}\n`)
  process.exit(1)
})
