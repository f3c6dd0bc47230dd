import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import { onTestFinished } from 'vitest'
import { decorateIdentity } from '../../../src/auth/request-identity.ts'
import { answerErrors } from '../../../src/routes/error-handler.ts'
import { registerApiDocs } from '../../../src/routes/gateway/docs.ts'

/** Some routes with the app's own conventions around them: raw bodies, identity, errors, API docs. Closes itself. */
export async function plainApp(...routes: FastifyPluginAsync[]): Promise<FastifyInstance> {
  const app = Fastify({ routerOptions: { maxParamLength: 2_000 } })
  decorateIdentity(app)
  answerErrors(app, { maxBodyBytes: 10_000_000 })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  await registerApiDocs(app, { version: '1.2.3' })
  for (const plugin of routes) await app.register(plugin)
  onTestFinished(() => app.close())
  return app
}
