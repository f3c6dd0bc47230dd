import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { dumpsPython } from '../../comfyui/python-json.ts'
import { member, stringValue } from '../../comfyui/raw-json.ts'
import { HttpError } from '../../errors.ts'
import { JSON_TYPE, serverError } from '../../queue/submitted-body.ts'
import type { RecordStore } from '../../store/store.ts'
import type { UserData } from '../../userdata/user-data.ts'
import { notFound } from '../pages.ts'
import { readJson } from './comfy-request.ts'
import { isRecentRelease } from './worker-style.ts'

export interface UserRoutesOptions {
  userData: UserData
  records: Pick<RecordStore, 'list' | 'put'>
  /** The version of the UI worker. */
  comfyVersion: () => Promise<string | undefined>
}

const COLLECTION = 'user-names'
const MAX_NAMES = 1_000
const MAX_NAME_LENGTH = 256

/**
 * `/users`, as a ComfyUI for one person: who asks is decided by the gateway's own keys. Names can be entered there, too,
 * and change nothing.
 */
export function userRoutes({ userData, records, comfyVersion }: UserRoutesOptions): FastifyPluginAsync {
  return async (app) => {
    guardUsers(app, ['/users'])

    app.get('/users', { schema: { hide: true } }, async (request, reply) => {
      reply.type(JSON_TYPE)
      return dumpsPython({ storage: 'server', migrated: await userData.hasAny(request.identity.owner) })
    })

    app.post('/users', { schema: { hide: true } }, async (request, reply) => {
      const name = stringValue(member(readJson(request).root, 'username'))
      if (name === undefined) throw serverError()
      reply.type(JSON_TYPE)
      const { owner } = request.identity
      const known = (await records.list(COLLECTION, { index: owner })).map(({ value }) => value)
      if (name === 'default' || known.includes(name)) {
        return reply.code(400).send(dumpsPython({ error: 'Duplicate username.' }))
      }
      const bare = name.trim()
      const problem =
        bare === '' ? 'username not provided' : bare.startsWith('__') ? 'System User prefix not allowed' : undefined
      if (problem !== undefined) {
        if (!isRecentRelease(await comfyVersion())) throw serverError()
        return reply.code(400).send(dumpsPython({ error: problem }))
      }
      if (bare.length > MAX_NAME_LENGTH || known.length >= MAX_NAMES) {
        throw new HttpError(
          400,
          'too_many_users',
          `At most ${MAX_NAMES} names of ${MAX_NAME_LENGTH} characters are kept`,
        )
      }
      const id = `${bare.replace(/[^a-zA-Z0-9_-]+/g, '-')}_${randomUUID()}`
      await records.put(COLLECTION, { id, value: bare, index: owner })
      return reply.send(dumpsPython(id))
    })
  }
}

/**
 * For routes whose answer belongs to a user. The header `comfy-user` says nothing here, but a name that ComfyUI keeps for
 * itself is refused as there; and what these routes do not answer is not for any worker either.
 */
export function guardUsers(app: FastifyInstance, paths: readonly string[]): void {
  app.addHook('onRequest', async ({ headers }) => {
    if (String(headers['comfy-user'] ?? '').startsWith('__')) {
      throw new HttpError(403, 'user_not_allowed', 'This user belongs to the system')
    }
  })
  for (const path of paths) {
    for (const url of [path, `${path}/*`]) {
      const method = url === path ? ['PUT', 'PATCH', 'DELETE'] : ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
      app.route({ method, url, schema: { hide: true }, handler: notFound })
    }
  }
}
