import { existsSync } from 'node:fs'
import { join } from 'node:path'
import fastifyStatic from '@fastify/static'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'

export interface PageRoutesOptions {
  /** The built page: `index.html` and what it names. May be missing. */
  distDir: string
}

/** No script, style or frame but our own; pictures also from memory, where previews arrive. */
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; " +
  "frame-ancestors 'none'"
const YEAR_S = 31_536_000

/** The cluster page at `/` and `/cluster/`. Clients ask `/` whether a ComfyUI is there, so it is 200 without a page, too. */
export function pageRoutes({ distDir }: PageRoutesOptions): FastifyPluginAsync {
  return async (app) => {
    app.addHook('onSend', async (_request, reply) => {
      reply.header('content-security-policy', CONTENT_SECURITY_POLICY)
      reply.header('x-content-type-options', 'nosniff')
      reply.header('referrer-policy', 'no-referrer')
    })
    app.get('/cluster', { schema: { hide: true } }, async (_request, reply) => reply.redirect('/cluster/'))

    if (!existsSync(join(distDir, 'index.html'))) {
      for (const url of ['/', '/cluster/']) {
        app.get(url, { schema: { hide: true } }, async (_request, reply) => {
          reply.type('text/plain; charset=utf-8')
          return 'The gateway is running. Its page is not built; npm run build makes it.\n'
        })
      }
      return
    }

    await app.register(fastifyStatic, {
      root: distDir,
      // One route for each file that is there: a wildcard would take the place of everything unknown.
      wildcard: false,
      cacheControl: false,
      dotfiles: 'ignore',
      setHeaders: (reply, path) => {
        // The build puts a hash of the content into the names of assets.
        const isAsset = path.startsWith(join(distDir, 'assets'))
        reply.header('cache-control', isAsset ? `public, max-age=${YEAR_S}, immutable` : 'no-cache')
      },
    })
    app.get('/cluster/', { schema: { hide: true } }, async (_request, reply) => reply.sendFile('index.html'))
  }
}

/**
 * What no route answers, as ComfyUI does: an empty 404 to GET and HEAD, 405 to the rest (its pages are served by a
 * catch-all that knows GET only).
 */
export function notFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (request.method === 'GET' || request.method === 'HEAD') {
    return reply.code(404).type('application/octet-stream').send(Buffer.alloc(0))
  }
  return reply.code(405).header('allow', 'GET,HEAD').type('text/plain; charset=utf-8').send('405: Method Not Allowed')
}
