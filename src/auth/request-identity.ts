import type { FastifyInstance } from 'fastify'
import { callerAddress } from './caller-address.ts'
import { type Identity, openIdentity } from './identity.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; set before any route runs. */
    identity: Identity
  }
}

/** Gives every request its identity. While keys are off it is the open owner and the caller's address. */
export function decorateIdentity(app: FastifyInstance): void {
  app.decorateRequest('identity')
  app.addHook('onRequest', async (request) => {
    request.identity = openIdentity(callerAddress(request))
  })
}
