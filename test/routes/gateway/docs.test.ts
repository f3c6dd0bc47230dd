import type { FastifyPluginAsync } from 'fastify'
import { expect, it } from 'vitest'
import { openApiText } from '../../../src/routes/gateway/docs.ts'
import { workerRoutes } from '../../../src/routes/gateway/workers.ts'
import { operationRoutes } from '../../../src/routes/operations.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'
import { plainApp } from './plain-app.ts'

const contract: FastifyPluginAsync = async (app) => {
  app.get('/queue', { schema: { hide: true } }, async () => ({}))
  app.get('/history', async () => ({}))
}

// Their handlers are never called here.
const workers = workerRoutes({} as Parameters<typeof workerRoutes>[0])
const operations = operationRoutes({
  store: createMemoryStore(),
  isLoaded: () => true,
  isStopping: () => false,
  storeTimeoutMs: 1_000,
})

it('describes our own routes and none of ComfyUI’s', async () => {
  const app = await plainApp(contract, workers, operations)
  const answer = await app.inject('/api/gateway/docs/json')
  expect(answer.json()).toMatchObject({ openapi: '3.1.0', info: { title: 'ComfyFleet', version: '1.2.3' } })
  expect(Object.keys(answer.json().paths).sort()).toEqual([
    '/api/workers',
    '/api/workers/{worker_id}',
    '/api/workers/{worker_id}/drain',
    '/api/workers/{worker_id}/health',
    '/health',
    '/ready',
  ])
  expect(answer.json().paths['/api/workers'].post.requestBody.content).toBeDefined()
})

it('writes the same document for the same routes', async () => {
  const texts = await Promise.all([0, 1].map(async () => openApiText(await plainApp(contract, workers))))
  expect(texts[0]).toBe(texts[1])
  expect(texts[0]).toMatch(/^\{\n[\s\S]*\}\n$/)
})

it('serves its page without asking any other host', async () => {
  const app = await plainApp(workers)
  const page = await app.inject('/api/gateway/docs')
  expect(page.statusCode).toBe(200)
  const { 'content-security-policy': policy } = page.headers
  expect(policy).toContain("default-src 'self'")
  expect(policy).toContain("frame-ancestors 'none'")
  expect(policy).not.toContain('unsafe-inline')
  expect(policy).not.toContain('http')
  expect(page.body).not.toMatch(/<script>|<style>| on\w+=/)
  const linked = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url]) => url ?? '')
  expect(linked.length).toBeGreaterThan(4)
  for (const url of linked) {
    expect(url).toMatch(/^\/api\/gateway\/docs\/static\//)
    expect((await app.inject(url)).statusCode).toBe(200)
  }
  const settings = await app.inject('/api/gateway/docs/static/swagger-initializer.js')
  expect(settings.body).toContain('validatorUrl: null')
  expect(settings.body.replaceAll('https://stackoverflow.com/a/77855838/492336', '')).not.toMatch(/https?:\/\//)
})
