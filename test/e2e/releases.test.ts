import { afterEach, describe, expect, it } from 'vitest'
import { createSimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { SocketClient } from '../relay/socket-client.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, pictureGraph, queueOf, submit } from '../support/comfy-client.ts'
import { startWorkerFront } from '../support/worker-front.ts'

let fleet: TestGateway | undefined
const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
  for (const clean of cleanups.splice(0)) await clean()
})

const OLD = { version: '0.3.64' } as const
const NEW = { version: '2026' } as const
const UUID = /"prompt_id": ?"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"/
const PARTNER_KEY = 'comfyui-0123456789abcdef'

describe('workers of 2025 and 2026', () => {
  it('run prompts under whatever id a client gave, though the newer take canonical UUIDs only', async () => {
    fleet = await buildTestGateway({ workers: [NEW] })
    const { url, workers } = fleet
    for (const id of ['my id', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '7']) {
      const answer = await submit(url, { prompt: pictureGraph(), prompt_id: id })
      expect([answer.status, answer.promptId]).toEqual([200, id])
      expect((await finished(url, id)).prompt[1]).toBe(id)
    }
    const sent = workers[0]?.ledger.requestsOf('POST /prompt').map(({ body }) => body) ?? []
    expect(sent).toHaveLength(3)
    for (const body of sent) expect(body).toMatch(UUID)
  })

  it.each([
    ['new ones alone', [NEW, NEW], 'missing_node_type'],
    ['old ones alone', [OLD, OLD], 'invalid_prompt'],
    ['both', [OLD, NEW], 'invalid_prompt'],
  ] as const)('refuse an unknown class in one dialect: %s', async (_name, workers, type) => {
    fleet = await buildTestGateway({ workers })
    const answer = await submit(fleet.url, { prompt: { '1': { class_type: 'Nope', inputs: {} } } })
    expect([answer.status, JSON.parse(answer.text).error.type]).toEqual([400, type])
  })

  it('serve a page of an allowed origin, though the newer refuse what a browser calls cross-site', async () => {
    const origin = 'https://app.example.org'
    fleet = await buildTestGateway({ workers: [NEW], env: { ALLOWED_ORIGINS: origin } })
    const { url, workers } = fleet
    const headers = { origin, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' }
    const posted = await fetch(`${url}/prompt`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ prompt: pictureGraph() }),
    })
    expect(posted.status).toBe(200)
    const { prompt_id } = (await posted.json()) as { prompt_id: string }
    const [image] = Object.values((await finished(url, prompt_id)).outputs).flatMap(({ images }) => images ?? [])
    const query = new URLSearchParams({ ...image, url: '' })
    expect((await fetch(`${url}/view?${query}`, { headers })).status).toBe(200)
    expect((await fetch(`${url}/embeddings`, { headers })).status).toBe(200)
    expect((await fetch(`${workers[0]?.url}/queue`, { headers: { 'sec-fetch-site': 'cross-site' } })).status).toBe(403)
  })

  it('are listed and cancelled as jobs, though the older know no /api/jobs', async () => {
    fleet = await buildTestGateway({ workers: [OLD] })
    const { url, workers } = fleet
    const { promptId: done } = await submit(url, { prompt: pictureGraph({ colour: 1 }) })
    await finished(url, done)
    const { promptId: running } = await submit(url, { prompt: pictureGraph({ sleepS: 30 }) })
    const jobs = async (query: string) =>
      ((await (await fetch(`${url}/api/jobs?${query}`)).json()) as { jobs: { id: string }[] }).jobs.map(({ id }) => id)
    await until(async () => (await jobs('status=in_progress')).includes(running))
    expect(await jobs('status=completed&limit=200&offset=0')).toEqual([done])
    const detail = await fetch(`${url}/api/jobs/${done}`)
    expect(await detail.json()).toMatchObject({ id: done, status: 'completed', outputs_count: 1 })
    const cancelled = await fetch(`${url}/api/jobs/${running}/cancel`, { method: 'POST' })
    expect(await cancelled.json()).toEqual({ cancelled: true })
    await until(async () => (await jobs('status=cancelled')).includes(running))
    expect(await (await fetch(`${url}/jobs`)).text()).toBe('')
    expect((await fetch(`${workers[0]?.url}/api/jobs`)).status).toBe(404)
  })

  it('have no assets behind the gateway, and that is said as ComfyUI says it', async () => {
    fleet = await buildTestGateway({ workers: [NEW, OLD] })
    const { url } = fleet
    expect(await (await fetch(`${url}/features`)).json()).not.toMatchObject({ assets: true })
    for (const [method, path] of [
      ['GET', '/api/assets'],
      ['HEAD', '/api/assets/hash/blake3:00'],
      ['POST', '/api/assets/from-hash'],
      ['GET', '/api/assets/5b0b1a52-7d0b-4a2b-9b39-3b4b5c6d7e8f/content?disposition=inline'],
      ['DELETE', '/api/assets/5b0b1a52-7d0b-4a2b-9b39-3b4b5c6d7e8f/tags'],
      ['GET', '/api/tags?limit=10'],
    ]) {
      const answer = await fetch(`${url}${path}`, method === undefined ? {} : { method })
      expect([path, answer.status]).toEqual([path, 503])
      if (method === 'HEAD') continue
      expect(await answer.json()).toEqual({
        error: { code: 'SERVICE_DISABLED', message: expect.any(String), details: {} },
      })
    }
    for (const path of ['/assets', '/tags']) expect((await fetch(`${url}${path}`)).status).toBe(404)
  })
})

describe('a worker whose queue has six elements, the last with keys', () => {
  it('is understood, and nothing of it is shown', async () => {
    const worker = await createSimulatedWorker(NEW)
    cleanups.push(() => worker.close())
    let changed = 0
    const withKeys = (answer: string): string => {
      const queue = JSON.parse(answer) as Record<string, unknown[][]>
      for (const item of Object.values(queue).flat()) {
        changed += 1
        item.push({ api_key_comfy_org: PARTNER_KEY, auth_token_comfy_org: PARTNER_KEY })
      }
      return JSON.stringify(queue)
    }
    const front = await startWorkerFront(worker, 'GET /queue', withKeys)
    cleanups.push(front.close)
    fleet = await buildTestGateway({ env: { WORKERS: front.url } })
    const { url } = fleet
    // Somebody else's runs, sent past the gateway, until it is stopped; two of ours wait behind it.
    const foreign = await submit(worker.url, { prompt: pictureGraph({ sleepS: 60 }), client_id: 'foreign' })
    const body = (colour: number) => ({
      prompt: pictureGraph({ colour }),
      extra_data: { api_key_comfy_org: PARTNER_KEY },
    })
    const ours = [await submit(url, body(1)), await submit(url, body(2))]
    const seen = changed
    const texts: string[] = []
    await until(async () => {
      for (const path of ['/queue', '/api/queue', '/api/jobs', '/history', '/api/workers', '/queue/remote']) {
        texts.push(await (await fetch(`${url}${path}`)).text())
      }
      const { queue_running, queue_pending } = await queueOf(url)
      for (const item of [...queue_running, ...queue_pending]) expect(item).toHaveLength(5)
      expect(queue_running.length + queue_pending.length).toBe(2)
      return changed > seen + 3
    })
    await fetch(`${worker.url}/interrupt`, { method: 'POST' })
    for (const { promptId } of ours) expect((await finished(url, promptId)).status.status_str).toBe('success')
    texts.push(await (await fetch(`${url}/history`)).text())
    expect(texts.join('\n')).not.toContain(PARTNER_KEY)
    expect(texts.join('\n')).not.toContain(foreign.promptId)
    expect(worker.ledger.runs.length).toBe(3)
  })
})

describe('a worker that throttles its progress', () => {
  it('is not taken for one that stalls, and its first and last step arrive', async () => {
    // Nothing but the first and the last step is told, and between them it is quiet longer than it is asked about.
    fleet = await buildTestGateway({
      workers: [NEW, NEW],
      env: { STALL_SECONDS: '4', HEALTH_INTERVAL_MS: '100', SUSPECT_AFTER_MS: '400', GIVE_UP_SECONDS: '1' },
    })
    const { url, workers } = fleet
    for (const worker of workers) worker.pace.tickMs = 1_200
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    const { promptId } = await submit(url, { prompt: pictureGraph({ sleepS: 1.1 }), client_id: 'c' })
    await client.untilTold(`executing ${promptId}:null`)
    const told = client.frames.flatMap((frame) => {
      if (typeof frame !== 'string') return []
      const { type, data } = JSON.parse(frame) as { type: string; data: { value: number; max: number } }
      return type === 'progress' ? [data] : []
    })
    expect(told).toMatchObject([
      { value: expect.any(Number), max: 1.1 },
      { value: 1.1, max: 1.1 },
    ])
    expect(workers.flatMap(({ ledger }) => ledger.runs)).toHaveLength(1)
    expect((await finished(url, promptId)).status.status_str).toBe('success')
    await client.leave()
  })
})
