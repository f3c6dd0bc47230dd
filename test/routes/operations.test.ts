import { beforeEach, expect, it } from 'vitest'
import { type OperationRoutesOptions, operationRoutes } from '../../src/routes/operations.ts'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import type { Store } from '../../src/store/store.ts'
import { plainApp } from './gateway/plain-app.ts'

let store: Store
beforeEach(() => {
  store = createMemoryStore()
})

async function ask(url: '/health' | '/ready', options: Partial<OperationRoutesOptions> = {}) {
  const app = await plainApp(
    operationRoutes({ store, isLoaded: () => true, isStopping: () => false, storeTimeoutMs: 50, ...options }),
  )
  return app.inject(url)
}

it('is ready when the store answers, all is loaded and it is not stopping', async () => {
  const answer = await ask('/ready')
  expect(answer.statusCode).toBe(200)
  expect(answer.body).toBe('{"status":"ok"}')
})

it.each<[name: string, options: () => Partial<OperationRoutesOptions>]>([
  ['while it loads', () => ({ isLoaded: () => false })],
  ['while it stops', () => ({ isStopping: () => true })],
  ['while the store hangs', () => ({ store: { records: { ...store.records, get: () => new Promise(() => {}) } } })],
  [
    'while the store fails',
    () => ({ store: { records: { ...store.records, get: () => Promise.reject(new Error('/path')) } } }),
  ],
])('is not ready %s, says when to ask again and nothing else; its health is good', async (_name, options) => {
  const ready = await ask('/ready', options())
  expect(ready.statusCode).toBe(503)
  expect(ready.body).toBe('{"status":"unavailable"}')
  expect(Number(ready.headers['retry-after'])).toBeGreaterThan(0)
  const health = await ask('/health', options())
  expect(health.statusCode).toBe(200)
  expect(health.body).toBe('{"status":"ok"}')
})

it('is not ready when the store is closed', async () => {
  await store.close()
  expect((await ask('/ready')).statusCode).toBe(503)
})
