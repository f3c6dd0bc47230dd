import type { FastifyPluginAsync } from 'fastify'
import { sendEmpty } from './comfy-request.ts'

/** `/internal/*`, which ComfyUI serves without `/api` only; register without prefix. */
export function internalRoutes(): FastifyPluginAsync {
  return async (app) => {
    // Clients that show the worker's log do not start when they cannot subscribe to it.
    app.patch('/internal/logs/subscribe', { schema: { hide: true } }, async (_request, reply) => sendEmpty(reply))
  }
}
