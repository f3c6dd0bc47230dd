import type { FastifyPluginAsync } from 'fastify'
import { dumpsPython } from '../../comfyui/python-json.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import type { FleetFeatures } from '../../workers/fleet-features.ts'

export interface SystemRoutesOptions {
  fleetStats: () => Promise<string>
  fleetFeatures: () => FleetFeatures
}

/** `GET /system_stats` and `GET /features`: the fleet as one ComfyUI. */
export function systemRoutes({ fleetStats, fleetFeatures }: SystemRoutesOptions): FastifyPluginAsync {
  return async (app) => {
    app.get('/system_stats', { schema: { hide: true } }, async (_request, reply) => {
      reply.type(JSON_TYPE)
      return fleetStats()
    })

    app.get('/features', { schema: { hide: true } }, async (_request, reply) => {
      reply.type(JSON_TYPE)
      return dumpsPython(fleetFeatures())
    })
  }
}
