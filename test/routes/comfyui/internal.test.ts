import Fastify from 'fastify'
import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { RecentLog } from '../../../src/recent-log.ts'
import { internalRoutes } from '../../../src/routes/comfyui/internal.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'
import { picture, startFleet } from './read-fleet.ts'

async function startLog() {
  const recentLog = new RecentLog()
  const app = Fastify()
  app.decorateRequest('identity')
  app.addHook('onRequest', async (request) => {
    request.identity = { owner: String(request.headers['x-owner'] ?? 'open'), caller: 'a' }
  })
  await app.register(
    internalRoutes({
      recentLog,
      uiWorker: { current: async () => undefined },
      store: createMemoryStore().prompts,
      uploads: {
        list: async (owner) => [
          { type: 'input', subfolder: '', filename: `${owner}.png` },
          { type: 'input', subfolder: 'sub', filename: 'x.png' },
          { type: 'output', subfolder: '', filename: 'o.png' },
        ],
      },
    }),
  )
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

describe('GET /internal/files', () => {
  it('lists the newest outputs under names that a later prompt can use', async () => {
    const fleet = await startFleet()
    for (const prefix of ['one', 'one', 'sub/two']) await fleet.run({ prompt: picture(prefix) })
    await fleet.run({ prompt: picture('theirs') }, { owner: 'key:1' })
    const names: string[] = (await fleet.get('/internal/files/output')).json()
    const token = fleet.workerOf(fleet.workers[0]).config.token
    // The second prompt was cached, and its file announced again.
    expect(names).toEqual([`${token}/sub/two_00001_.png`, `${token}/one_00001_.png`])
    expect((await fleet.get('/internal/files/temp')).body).toBe('[]')

    const image = `${names[0]} [output]`
    const promptId = await fleet.run({
      prompt: {
        1: { class_type: 'LoadImage', inputs: { image } },
        2: { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'again' } },
      },
    })
    expect((await fleet.get(`/history/${promptId}`)).json()[promptId].status.status_str).toBe('success')
  })

  it('lists uploads, each owner’s own, and refuses other folders', async () => {
    const { app } = await startLog()
    const ask = async (type: string, owner = 'open') => {
      const answer = await app.inject({ url: `/internal/files/${type}`, headers: { 'x-owner': owner } })
      return [answer.statusCode, answer.body]
    }
    expect(await ask('input')).toEqual([200, '["open.png", "sub/x.png"]'])
    expect(await ask('input', 'ann')).toEqual([200, '["ann.png", "sub/x.png"]'])
    expect(await ask('output')).toEqual([200, '["o.png"]'])
    for (const type of ['models', '..%2finput', 'output%00', '']) {
      expect(await ask(type)).toEqual([400, '{"error": "Invalid directory type"}'])
    }
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
