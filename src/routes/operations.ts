import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { Store } from '../store/store.ts'

export interface OperationRoutesOptions {
  store: Pick<Store, 'records'>
  /** True once what the store knows of workers and prompts was read. */
  isLoaded(): boolean
  isStopping(): boolean
  /** Milliseconds the store may take to answer. */
  storeTimeoutMs: number
}

const RETRY_AFTER_S = 2
const Alive = Type.Object({ status: Type.Literal('ok') })
const NotReady = Type.Object({ status: Type.Literal('unavailable') })

/** `GET /health`: the process lives. `GET /ready`: send it requests. Neither says more, since anybody may ask. */
export function operationRoutes(options: OperationRoutesOptions): FastifyPluginAsyncTypebox {
  const { store, isLoaded, isStopping, storeTimeoutMs } = options

  async function doesStoreAnswer(): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), storeTimeoutMs)
    })
    const answered = store.records.get('ready', 'probe').then(
      () => true,
      () => false,
    )
    try {
      return await Promise.race([answered, late])
    } finally {
      clearTimeout(timer)
    }
  }

  return async (app) => {
    app.get(
      '/health',
      { schema: { tags: ['operation'], summary: 'Whether the process lives', response: { 200: Alive } } },
      async (_request, reply) => {
        reply.header('cache-control', 'no-store')
        return { status: 'ok' as const }
      },
    )

    app.get(
      '/ready',
      {
        schema: {
          tags: ['operation'],
          summary: 'Whether the gateway takes prompts',
          response: { 200: Alive, 503: NotReady },
        },
      },
      async (_request, reply) => {
        reply.header('cache-control', 'no-store')
        if (isLoaded() && !isStopping() && (await doesStoreAnswer())) return { status: 'ok' as const }
        return reply.code(503).header('retry-after', String(RETRY_AFTER_S)).send({ status: 'unavailable' })
      },
    )
  }
}
