import Fastify from 'fastify'
import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { RecentLog } from '../../../src/recent-log.ts'
import { internalRoutes } from '../../../src/routes/comfyui/internal.ts'
import { startFleet } from './read-fleet.ts'

async function startLog() {
  const recentLog = new RecentLog()
  const app = Fastify()
  app.decorateRequest('identity')
  app.addHook('onRequest', async (request) => {
    request.identity = { owner: String(request.headers['x-owner'] ?? 'open'), caller: 'a' }
  })
  await app.register(internalRoutes({ recentLog, uiWorker: () => undefined }))
  return { app, log: pino({}, recentLog) }
}

describe('the log', () => {
  it('is one text, or lines of a terminal', async () => {
    const { app, log } = await startLog()
    expect((await app.inject('/internal/logs')).body).toBe('""')
    log.info({ workerId: 'w1' }, 'worker is up')
    log.warn('worker “é” is gone')
    const whole = await app.inject('/internal/logs')
    expect(whole.headers['content-type']).toBe('application/json; charset=utf-8')
    expect(whole.json()).toMatch(
      /^\d{4}-\d\d-\d\dT[\d:.]+Z - worker is up workerId=w1\n\d{4}\S+ - warn worker “é” is gone\n$/,
    )
    const { entries, size } = (await app.inject('/internal/logs/raw')).json()
    expect(entries.map(({ m }: { m: string }) => m)).toEqual([
      'worker is up workerId=w1\n',
      'warn worker “é” is gone\n',
    ])
    expect(Date.parse(entries[0].t)).toBeGreaterThan(0)
    expect(size).toEqual({ cols: 80, rows: 24 })
  })

  it('is not shown to the owner of a key, whom the prompts of others do not concern', async () => {
    const { app, log } = await startLog()
    log.info({ promptId: 'p' }, 'prompt failed')
    const ask = (url: string) => app.inject({ url, headers: { 'x-owner': 'key:1' } })
    expect((await ask('/internal/logs')).body).toBe('""')
    expect((await ask('/internal/logs/raw')).json().entries).toEqual([])
  })
})

describe('GET /internal/folder_paths', () => {
  it('is what the UI worker says, and empty without one', async () => {
    const fleet = await startFleet()
    expect((await fleet.get('/internal/folder_paths')).json()).toEqual({
      checkpoints: ['/comfyui/models/checkpoints'],
    })
    fleet.workers[0]?.faults.set('GET /internal/folder_paths', { kind: 'html' })
    expect((await fleet.get('/internal/folder_paths')).body).toBe('{}')
    const { app } = await startLog()
    expect((await app.inject('/internal/folder_paths')).body).toBe('{}')
  })
})
