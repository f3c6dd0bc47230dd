import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { dumpsPython } from '../../comfyui/python-json.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'

const DISABLED = dumpsPython({
  error: { code: 'SERVICE_DISABLED', message: 'The assets system is disabled on this server.', details: {} },
})

/**
 * `/api/assets*` and `/api/tags`, as a ComfyUI with its assets switched off: what they name is a row in one worker's own
 * database, and `/features` says that there are none. Whole paths; register without prefix.
 */
export function assetRoutes(): FastifyPluginAsync {
  const answer = async (_request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> =>
    reply.code(503).type(JSON_TYPE).send(DISABLED)
  return async (app) => {
    for (const url of ['/api/assets', '/api/assets/*', '/api/tags']) {
      app.route({
        method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
        url,
        schema: { hide: true },
        handler: answer,
      })
    }
  }
}
