import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { HttpError } from '../../errors.ts'
import type { PromptQueue } from '../../queue/queue.ts'
import { UnknownWorkerError, WorkerExistsError, type WorkerRegistry } from '../../workers/registry.ts'
import { type TrialClocks, whyNotCallable, whyNotReached } from '../../workers/trial-call.ts'
import type { Worker } from '../../workers/worker.ts'
import { workerIdOf } from '../../workers/worker-records.ts'
import { DetailReply, ErrorReply } from './error-replies.ts'
import { jsonBody } from './json-body.ts'
import {
  NewWorkerBody,
  newWorkerOf,
  patchOf,
  UnusableValueError,
  WorkerPatchBody,
  withoutNulls,
} from './worker-input.ts'
import { viewOf, WorkerView } from './worker-view.ts'

export interface WorkerRoutesOptions {
  registry: WorkerRegistry
  queue: Pick<PromptQueue, 'get'>
  /** The clock of the registry. */
  now: () => number
  /** How long a new worker may take to answer. */
  clocks: TrialClocks
}

const MAX_BODY_BYTES = 1024 * 1024
const WorkerParams = Type.Object({ worker_id: Type.String() })
const CheckedWorker = Type.Object({
  ...WorkerView.properties,
  check: Type.Object({
    healthy: Type.Boolean({ description: 'Whether it answered just now.' }),
    reason: Type.Union([Type.String(), Type.Null()]),
  }),
})

/** `/api/workers`: who the workers are and how they are, from state; adding, changing, draining and removing them. */
export function workerRoutes({ registry, queue, now, clocks }: WorkerRoutesOptions): FastifyPluginAsyncTypebox {
  const view = (worker: Worker, request: FastifyRequest) => viewOf(worker, { queue, identity: request.identity, now })

  function mustGet(id: string): Worker {
    const worker = registry.get(id)
    if (!worker) throw new UnknownWorkerError(id)
    return worker
  }

  return async (app) => {
    const readJson = jsonBody(app)
    const bodyHooks = {
      bodyLimit: MAX_BODY_BYTES,
      preValidation: async (request: FastifyRequest) => {
        await readJson(request)
        request.body = withoutNulls(request.body)
      },
    }
    app.setSchemaErrorFormatter(([error]) => {
      const path = error?.instancePath.slice(1).replaceAll('/', '.')
      return new UnusableValueError(`${path || 'The body'} ${error?.message ?? 'cannot be used'}`)
    })
    app.setErrorHandler((error: unknown, _request, reply) => {
      // What the app knows goes on to the app.
      if (!(error instanceof HttpError) || error.status !== 422) throw error
      return reply.code(422).send({ detail: error.message })
    })

    app.get(
      '/api/workers',
      {
        schema: {
          tags: ['workers'],
          summary: 'The workers and how they are',
          response: { 200: Type.Object({ workers: Type.Array(WorkerView) }) },
        },
      },
      async (request) => ({ workers: registry.list().map((worker) => view(worker, request)) }),
    )

    app.post(
      '/api/workers',
      {
        ...bodyHooks,
        schema: {
          tags: ['workers'],
          summary: 'Adds a worker that can be reached',
          body: NewWorkerBody,
          response: { 200: WorkerView, 400: ErrorReply, 409: ErrorReply, 422: DetailReply },
        },
      },
      async (request) => {
        const wanted = newWorkerOf(request.body)
        if (registry.get(workerIdOf(wanted.url))) throw new WorkerExistsError(wanted.url)
        const endpoint = registry.endpointOf({
          isConfigured: false,
          url: wanted.url,
          headers: wanted.headers ?? {},
          auth: wanted.auth,
          ca: wanted.ca,
        })
        const problem =
          (await whyNotCallable(endpoint, clocks)) ??
          (request.body.skip_health_check ? undefined : await whyNotReached(endpoint, clocks))
        if (problem !== undefined) throw new UnusableValueError(problem)
        const worker = await registry.add(wanted)
        return view(
          request.body.enabled === false ? await registry.update(worker.id, { enabled: false }) : worker,
          request,
        )
      },
    )

    app.patch(
      '/api/workers/:worker_id',
      {
        ...bodyHooks,
        schema: {
          tags: ['workers'],
          summary: 'Changes what is sent',
          params: WorkerParams,
          body: WorkerPatchBody,
          response: { 200: WorkerView, 400: ErrorReply, 404: ErrorReply, 422: DetailReply },
        },
      },
      async (request) => {
        const { config } = mustGet(request.params.worker_id)
        return view(await registry.update(config.id, patchOf(request.body, config)), request)
      },
    )

    app.delete(
      '/api/workers/:worker_id',
      {
        schema: {
          tags: ['workers'],
          summary: 'Removes it; what it runs goes to other workers',
          params: WorkerParams,
          response: {
            200: Type.Object({ worker_id: Type.String(), removed: Type.Literal(true) }),
            404: ErrorReply,
          },
        },
      },
      async (request) => {
        const { id } = mustGet(request.params.worker_id)
        await registry.remove(id)
        return { worker_id: id, removed: true as const }
      },
    )

    app.post(
      '/api/workers/:worker_id/health',
      {
        schema: {
          tags: ['workers'],
          summary: 'Checks it now',
          params: WorkerParams,
          response: { 200: CheckedWorker, 404: ErrorReply },
        },
      },
      async (request) => {
        const worker = mustGet(request.params.worker_id)
        const check = await registry.supervisor(worker.id)?.checkNow()
        if (!check) throw new UnknownWorkerError(worker.id)
        return { ...view(worker, request), check: { healthy: check.healthy, reason: check.reason ?? null } }
      },
    )

    app.post(
      '/api/workers/:worker_id/drain',
      {
        ...bodyHooks,
        schema: {
          tags: ['workers'],
          summary: 'Lets it finish what it has and gives it nothing new',
          params: WorkerParams,
          body: Type.Object({
            drain: Type.Optional(Type.Boolean({ default: true, description: 'False takes it back into use.' })),
          }),
          response: { 200: WorkerView, 404: ErrorReply, 422: DetailReply },
        },
      },
      async (request) => {
        const { id } = mustGet(request.params.worker_id)
        return view(await registry.update(id, { draining: request.body.drain ?? true }), request)
      },
    )
  }
}
