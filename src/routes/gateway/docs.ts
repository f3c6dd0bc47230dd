import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'

export interface ApiDocsOptions {
  /** Version of the gateway. */
  version: string
}

const DOCS_PATH = '/api/gateway/docs'

/** Everything from here; the page's own pictures are inline data. */
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; " +
  "frame-ancestors 'none'"

/**
 * The OpenAPI page at `/api/gateway/docs`, its JSON at `/api/gateway/docs/json`. Lists the routes with a tag: ours, not
 * ComfyUI's. Call it before those routes are registered.
 */
export async function registerApiDocs(app: FastifyInstance, { version }: ApiDocsOptions): Promise<void> {
  await app.register(swagger, {
    hideUntagged: true,
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'ComfyFleet',
        version,
        description: "The gateway's own routes. Beside them it answers ComfyUI's, bare and under `/api`.",
      },
      tags: [
        { name: 'workers', description: 'The ComfyUI servers behind the gateway' },
        { name: 'prompts', description: 'How far a prompt is' },
        { name: 'operation', description: 'For whoever keeps the gateway running' },
      ],
    },
  })
  await app.register(swaggerUi, {
    routePrefix: DOCS_PATH,
    staticCSP: CONTENT_SECURITY_POLICY,
    theme: { title: 'ComfyFleet API' },
    uiConfig: { docExpansion: 'list', deepLinking: true },
  })
}

/** The OpenAPI document of an app with `registerApiDocs`, for a file. Makes the app ready; the same for each call. */
export async function openApiText(app: FastifyInstance): Promise<string> {
  await app.ready()
  return `${JSON.stringify(app.swagger(), undefined, 2)}\n`
}
