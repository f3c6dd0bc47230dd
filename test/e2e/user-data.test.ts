import { expect, it, onTestFinished } from 'vitest'
import { send } from '../demo/raw-client.ts'
import { buildTestGateway } from '../support/app.ts'

it('keeps what the editor saves on whatever worker is up, and hands out nothing else', async () => {
  const gateway = await buildTestGateway({ workers: 2 })
  onTestFinished(() => gateway.close())
  const { url, workers } = gateway
  const save = { method: 'POST', headers: { 'content-type': 'text/plain' } }
  expect((await send(url, { ...save, path: '/api/userdata/workflows%2Fa.json', body: '{"v": 1.0}' })).status).toBe(200)
  expect((await send(url, { ...save, path: '/api/settings/Comfy.X', body: 'true' })).status).toBe(200)
  await workers[0]?.kill()
  expect((await send(url, { path: '/api/userdata/workflows%2Fa.json' })).text).toBe('{"v": 1.0}')
  expect((await send(url, { path: '/settings' })).text).toBe('{"Comfy.X": true}')

  const refused = await send(url, { ...save, path: `/userdata/${'x'.repeat(300)}`, body: '' })
  expect([refused.status, refused.text]).toEqual([400, ''])
  // Dots that no client library takes out first.
  for (const path of ['/userdata/..', '/userdata/%2e%2e', '/userdata/..%2fsecret.key', '/userdata/../secret.key']) {
    expect([403, 404]).toContain((await send(url, { path })).status)
  }
  expect((await send(url, { path: '/internal/logs' })).status).toBe(200)
})
