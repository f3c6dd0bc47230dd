import type { FastifyPluginAsync } from 'fastify'
import { notFound } from '../pages.ts'

export interface EditorRedirectOptions {
  /** Undefined while there is no editor. */
  editorPort: () => number | undefined
}

/** `/comfy` leads to the editor, which has an origin of its own: the same host under another port. */
export function editorRedirect({ editorPort }: EditorRedirectOptions): FastifyPluginAsync {
  return async (app) => {
    for (const url of ['/comfy', '/comfy/']) {
      app.get(url, { schema: { hide: true } }, async (request, reply) => {
        const port = editorPort()
        if (port === undefined || request.hostname === '') return notFound(request, reply)
        const query = request.url.includes('?') ? request.url.slice(request.url.indexOf('?')) : ''
        return reply.redirect(`${request.protocol}://${request.hostname}:${port}/${query}`, 302)
      })
    }
  }
}
