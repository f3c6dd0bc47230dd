import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { notFound, pageRoutes } from '../../src/routes/pages.ts'
import { plainApp } from './gateway/plain-app.ts'

interface Exchange {
  request: { method: 'GET' | 'POST'; path: string }
  response: { status: number; headers: Record<string, string>; text: string }
}

async function appWith(files: Record<string, string>): Promise<FastifyInstance> {
  const distDir = await mkdtemp(join(tmpdir(), 'pages-'))
  onTestFinished(() => rm(distDir, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(distDir, name, '..'), { recursive: true })
    await writeFile(join(distDir, name), text)
  }
  const app = await plainApp(pageRoutes({ distDir }))
  app.setNotFoundHandler(notFound)
  app.post('/interrupt', async (_request, reply) => reply.send())
  return app
}

const built = {
  'index.html': '<!doctype html><script type="module" src="/assets/main-1a2b.js"></script>',
  'assets/main-1a2b.js': 'export {}',
  'favicon.svg': '<svg xmlns="http://www.w3.org/2000/svg"/>',
  '.secret': 'no',
}

describe('the built page', () => {
  it.each(['/', '/cluster/', '/?a=1'])('is at %s, and lets nothing of others in', async (url) => {
    const answer = await (await appWith(built)).inject(url)
    expect(answer.statusCode).toBe(200)
    expect(answer.body).toBe(built['index.html'])
    expect(answer.headers).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-cache',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
    })
    const policy = String(answer.headers['content-security-policy'])
    expect(policy).toContain("default-src 'self'")
    expect(policy).toContain("frame-ancestors 'none'")
    expect(policy).not.toContain('unsafe')
  })

  it('has assets that may be kept for ever, since their names change with them', async () => {
    const app = await appWith(built)
    const script = await app.inject('/assets/main-1a2b.js')
    expect(script.body).toBe('export {}')
    expect(script.headers).toMatchObject({
      'content-type': expect.stringContaining('javascript'),
      'cache-control': expect.stringContaining('immutable'),
      'x-content-type-options': 'nosniff',
    })
    expect((await app.inject('/favicon.svg')).headers['cache-control']).toBe('no-cache')
  })

  it('answers HEAD, and a copy that is still good with 304', async () => {
    const app = await appWith(built)
    expect((await app.inject({ method: 'HEAD', url: '/' })).statusCode).toBe(200)
    const { etag } = (await app.inject('/')).headers
    expect((await app.inject({ url: '/', headers: { 'if-none-match': String(etag) } })).statusCode).toBe(304)
  })

  it('is found without the last slash', async () => {
    const answer = await (await appWith(built)).inject('/cluster')
    expect(answer.statusCode).toBe(302)
    expect(answer.headers.location).toBe('/cluster/')
  })

  it.each(['/assets/none.js', '/.secret', '/..%2f..%2fetc/passwd', '/assets/..%2f.secret', '/assets/'])(
    'does not give %s',
    async (url) => {
      const answer = await (await appWith(built)).inject(url)
      expect(answer.statusCode).toBe(404)
      expect(answer.body).toBe('')
    },
  )
})

it.each(['/', '/cluster/'])(
  'is 200 at %s before the page is built, for clients that look for a ComfyUI',
  async (url) => {
    const answer = await (await appWith({})).inject(url)
    expect(answer.statusCode).toBe(200)
    expect(answer.headers['content-type']).toBe('text/plain; charset=utf-8')
  },
)

describe('what no route answers', async () => {
  const fixture = new URL('../fixtures/comfyui-0.3.64.json', import.meta.url)
  const { situations } = JSON.parse(await readFile(fixture, 'utf8')) as {
    situations: { name: string; http: Exchange[] }[]
  }
  const recorded = (situations.find(({ name }) => name === 'methods')?.http ?? []).filter(
    ({ response }) => response.status === 404 || response.status === 405,
  )

  it('was recorded from a real ComfyUI', () =>
    expect(recorded.map(({ response }) => response.status).sort()).toEqual([404, 405]))

  it.each(recorded)('is as in ComfyUI: $request.method $request.path', async ({ request, response }) => {
    const answer = await (await appWith(built)).inject({ method: request.method, url: request.path })
    expect(answer.statusCode).toBe(response.status)
    expect(answer.body).toBe(response.text)
    expect(answer.headers).toMatchObject(response.headers)
  })

  it.each(['PUT', 'PATCH', 'DELETE'] as const)('is 405 for %s', async (method) => {
    const answer = await (await appWith(built)).inject({ method, url: '/nothing' })
    expect(answer.statusCode).toBe(405)
    expect(answer.headers.allow).toBe('GET,HEAD')
  })
})
