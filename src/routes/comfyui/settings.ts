import type { FastifyPluginAsync } from 'fastify'
import { dumpsNode } from '../../comfyui/python-json.ts'
import { JSON_TYPE, serverError } from '../../queue/submitted-body.ts'
import type { UserData } from '../../userdata/user-data.ts'
import { settingsOf } from '../../userdata/user-settings.ts'
import { readJson, sendEmpty } from './comfy-request.ts'
import { guardUsers } from './users.ts'

/** `/settings` and `/settings/{id}`: the front end's settings, kept by the gateway for each owner. */
export function settingsRoutes({ userData }: { userData: UserData }): FastifyPluginAsync {
  const { settings, imports } = userData
  return async (app) => {
    guardUsers(app, ['/settings'])

    app.get('/settings', { schema: { hide: true } }, async ({ identity }, reply) => {
      await imports.settingsReady(identity.owner)
      reply.type(JSON_TYPE)
      return (await settings.text(identity.owner)) ?? '{}'
    })

    app.get<{ Params: { id: string } }>('/settings/:id', { schema: { hide: true } }, async (request, reply) => {
      const { owner } = request.identity
      await imports.settingsReady(owner)
      reply.type(JSON_TYPE)
      return (await settings.value(owner, request.params.id)) ?? 'null'
    })

    app.post('/settings', { schema: { hide: true } }, async (request, reply) => {
      const { root } = readJson(request)
      if (root.kind !== 'object') throw serverError()
      await settings.merge(request.identity.owner, settingsOf(root))
      return sendEmpty(reply)
    })

    app.post<{ Params: { id: string } }>('/settings/:id', { schema: { hide: true } }, async (request, reply) => {
      const json = dumpsNode(readJson(request).root)
      await settings.merge(request.identity.owner, new Map([[request.params.id, json]]))
      return sendEmpty(reply)
    })
  }
}
