import type { FastifyPluginAsync } from 'fastify'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import type { FleetObjectInfo } from '../../workers/fleet-object-info.ts'

/** `GET /object_info` and `GET /object_info/{class}`, merged over the workers. */
export function objectInfoRoutes({ objectInfo }: { objectInfo: FleetObjectInfo }): FastifyPluginAsync {
  return async (app) => {
    app.get('/object_info', { schema: { hide: true } }, async (request, reply) => {
      const answer = await objectInfo.whole()
      reply.type(JSON_TYPE).header('vary', 'Accept-Encoding')
      if (!takesGzip(request.headers['accept-encoding'])) return answer.plain
      reply.header('content-encoding', 'gzip')
      return answer.gzip
    })

    // A client dies of anything but a JSON object here, for a class that nobody has, too.
    app.get<{ Params: { classType: string } }>(
      '/object_info/:classType',
      { schema: { hide: true } },
      async (request, reply) => {
        reply.type(JSON_TYPE)
        return objectInfo.ofClass(request.params.classType)
      },
    )
  }
}

/** Whether an `Accept-Encoding` names gzip and does not refuse it. */
function takesGzip(header: string | string[] | undefined): boolean {
  return String(header ?? '')
    .split(',')
    .some((item) => {
      const [name = '', ...parameters] = item.split(';').map((part) => part.trim().toLowerCase())
      return name === 'gzip' && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter))
    })
}
