import { afterEach, describe, expect, it } from 'vitest'
import { reportOf } from '../../src/verify/report.ts'
import { verifyFleet } from '../../src/verify/verify.ts'
import type { WorkerTest } from '../../src/verify/worker-test.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

async function verify(url: string, runTimeoutMs = 5_000): Promise<{ isWell: boolean; text: string }> {
  let text = ''
  const isWell = await verifyFleet(url, { write: (part) => (text += part), runTimeoutMs })
  return { isWell, text }
}

const test = async (url: string, workerId: string): Promise<WorkerTest> => {
  const answer = await fetch(`${url}/api/workers/${workerId}/test`, { method: 'POST' })
  expect(answer.status).toBe(200)
  return (await answer.json()) as WorkerTest
}

describe('comfyfleet verify', () => {
  it('is content with a fleet of two releases that is well, and uses every worker once', async () => {
    fleet = await buildTestGateway({ workers: [{}, { version: '2026' }] })
    const { isWell, text } = await verify(fleet.url)
    expect(text).toMatch(/^worker +reachable +auth +version +latency +ran +picture +upload\n/)
    expect(text.match(/ok +ok +(0\.3\.64|0\.38\.0) +\d+ ms +ok +ok/g)).toHaveLength(2)
    expect(text).not.toContain('FAILED')
    expect(isWell).toBe(true)
    for (const worker of fleet.workers) {
      const runs = worker.ledger.runs.length
      // The second is for an upload.
      expect(runs === 1 || runs === 2).toBe(true)
      expect(runs === 2).toBe(!text.includes('not available'))
    }
    expect(await (await fetch(`${fleet.url}/history`)).text()).toBe('{}')
  })

  it('names the worker that is down, and tries the others all the same', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers, gateway } = fleet
    await workers[0]?.kill()
    await until(() => gateway.workers().some(({ state }) => state.kind !== 'healthy'))
    const { isWell, text } = await verify(url)
    expect(isWell).toBe(false)
    expect(text).toContain(`(${workers[0]?.url}): reachable: `)
    expect(text.match(/ok +ok +0\.3\.64 +\d+ ms +ok +ok/g)).toHaveLength(1)
  })

  it('tells refused credentials from a worker that is not there', async () => {
    fleet = await buildTestGateway({ workers: [{ auth: { username: 'a', password: 'b' } }], untilHealthy: false })
    const { isWell, text } = await verify(fleet.url)
    expect(isWell).toBe(false)
    expect(text).toMatch(/ok +FAILED +- +- +- +- +-/)
    expect(text).toContain('auth: GET /prompt answered 401')
  })

  it('notices a picture that does not come', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { OUTPUT_CACHE_BYTES: '0' } })
    fleet.workers[0]?.faults.set('GET /view', { kind: 'status', status: 404 })
    const { isWell, text } = await verify(fleet.url)
    expect(isWell).toBe(false)
    expect(text).toMatch(/picture: the picture was answered 404/)
  })

  it('gives up on a worker that is busy, and leaves nothing behind there', async () => {
    fleet = await buildTestGateway({ workers: [{ pace: { nodeMs: 60_000 } }] })
    const { isWell, text } = await verify(fleet.url, 500)
    expect(isWell).toBe(false)
    expect(text).toContain('ran: it did not end within 1 s')
    await until(async () => (await (await fetch(`${fleet?.url}/prompt`)).text()).includes('"queue_remaining": 0'))
  })

  it('says in one line that there is no gateway, or no address', async () => {
    expect(await verify('http://127.0.0.1:9')).toEqual({
      isWell: false,
      text: expect.stringMatching(/^http:\/\/127\.0\.0\.1:9 could not be verified: .+\n$/),
    })
    expect((await verify('ftp://x')).text).toContain('not the address of a gateway')
  })
})

describe('POST /api/workers/{id}/test', () => {
  it('answers the same checks for one worker', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const [first, second] = fleet.gateway.workers()
    const answer = await test(fleet.url, first?.id ?? '')
    expect(answer).toMatchObject({
      worker_id: first?.id,
      ok: true,
      version: '0.3.64',
      latency_ms: expect.any(Number),
      checks: { reachable: { result: 'ok', reason: null }, ran: { result: 'ok' }, picture: { result: 'ok' } },
    })
    const other = fleet.workers.find(({ url }) => url === second?.config.url)
    expect(other?.ledger.runs).toHaveLength(0)
  })

  it('runs once for everybody who asks at the same time', async () => {
    fleet = await buildTestGateway({ workers: [{ pace: { nodeMs: 50 } }] })
    const id = fleet.gateway.workers()[0]?.id ?? ''
    const answers = await Promise.all([test(fleet.url, id), test(fleet.url, id), test(fleet.url, id)])
    expect(new Set(answers.map(({ ok }) => ok))).toEqual(new Set([true]))
    expect(fleet.workers[0]?.ledger.runs.length).toBeLessThanOrEqual(2)
  })

  it('leaves a worker alone that is not enabled, and does not know others', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const id = fleet.gateway.workers()[0]?.id ?? ''
    await fetch(`${fleet.url}/api/workers/${id}`, { method: 'PATCH', body: '{"enabled": false}' })
    const answer = await test(fleet.url, id)
    expect([answer.ok, answer.checks.ran]).toEqual([true, { result: 'skipped', reason: 'it is not enabled' }])
    expect(fleet.workers[0]?.ledger.runs).toHaveLength(0)
    expect((await fetch(`${fleet.url}/api/workers/none/test`, { method: 'POST' })).status).toBe(404)
  })
})

it('draws its table without control characters of workers', () => {
  const check = { result: 'ok', reason: null } as const
  const checks = { reachable: check, auth: check, ran: check, picture: check, upload: check }
  const bad = { ...checks, ran: { result: 'failed', reason: 'a\u001b[2Jb\nc' } as const }
  const report = reportOf([
    {
      worker_id: 'w',
      name: 'gpu\u001b]0;x\u0007',
      url: 'http://w',
      ok: false,
      version: '1\n2',
      latency_ms: 3,
      checks: bad,
    },
  ])
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there.
  expect(report.replaceAll('\n', '')).not.toMatch(/[\0-\x1f]/)
  expect(report.split('\n')).toHaveLength(5)
})
