import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { GatewayCall } from '../../verify/gateway-call.ts'
import { testWorker, type WorkerTest } from '../../verify/worker-test.ts'
import { UnknownWorkerError, type WorkerRegistry } from '../../workers/registry.ts'
import { ErrorReply } from './error-replies.ts'

export interface WorkerTestRoutesOptions {
  registry: Pick<WorkerRegistry, 'get'>
}

/** Milliseconds for one workflow of a test. */
const RUN_TIMEOUT_MS = 30_000

const NullableText = Type.Union([Type.String(), Type.Null()])
const Check = (description: string) =>
  Type.Object({ result: Type.Enum(['ok', 'failed', 'skipped']), reason: NullableText }, { description })
const WorkerTestReply = Type.Object({
  worker_id: Type.String(),
  name: Type.String(),
  url: Type.String(),
  ok: Type.Boolean({ description: 'No check failed.' }),
  version: { ...NullableText, description: 'Of its ComfyUI.' },
  latency_ms: Type.Union([Type.Number(), Type.Null()]),
  checks: Type.Object({
    reachable: Check('It answers as ComfyUI does.'),
    auth: Check('It takes the credentials that the gateway has for it.'),
    ran: Check('A workflow without a model ran there.'),
    picture: Check('Its picture came back and is the right one.'),
    upload: Check('A picture that was uploaded came back through a workflow.'),
  }),
})

/** `POST /api/workers/{worker_id}/test`: uses a worker as a client would. Of several at once, one runs for all. */
export function workerTestRoutes({ registry }: WorkerTestRoutesOptions): FastifyPluginAsyncTypebox {
  const underWay = new Map<string, Promise<WorkerTest>>()

  return async (app) => {
    app.post(
      '/api/workers/:worker_id/test',
      {
        schema: {
          tags: ['workers'],
          summary: 'Runs a small workflow on it and looks at the picture',
          description:
            'Takes as long as the worker needs, at most two times 30 s; leaves small pictures in its outputs.',
          params: Type.Object({ worker_id: Type.String() }),
          response: { 200: WorkerTestReply, 404: ErrorReply },
        },
      },
      async (request) => {
        const { worker_id: workerId } = request.params
        if (!registry.get(workerId)) throw new UnknownWorkerError(workerId)
        let test = underWay.get(workerId)
        if (!test) {
          test = testWorker({ call: callInside(app, request), workerId, runTimeoutMs: RUN_TIMEOUT_MS }).finally(() =>
            underWay.delete(workerId),
          )
          underWay.set(workerId, test)
        }
        return test
      },
    )
  }
}

/** Goes through the gateway's own routes in the name of whoever asked. */
function callInside(app: FastifyInstance, asked: FastifyRequest): GatewayCall {
  const { host = 'localhost', authorization, cookie } = asked.headers
  const who = { host, ...(authorization ? { authorization } : {}), ...(cookie ? { cookie } : {}) }
  return async ({ method, path, body }) => {
    const answer = await app.inject({
      method,
      url: path,
      headers: { ...who, ...(body ? { 'content-type': body.type } : {}) },
      remoteAddress: asked.ip,
      ...(body ? { payload: body.bytes } : {}),
    })
    return { status: answer.statusCode, body: answer.rawPayload }
  }
}
