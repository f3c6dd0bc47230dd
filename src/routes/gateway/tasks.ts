import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { Identity } from '../../auth/identity.ts'
import { HttpError } from '../../errors.ts'
import { type Progress, type Prompt, sees } from '../../queue/prompt.ts'
import type { PromptQueue } from '../../queue/queue.ts'
import type { PromptRecord, PromptStatus, PromptStore } from '../../store/store.ts'
import type { WorkerRegistry } from '../../workers/registry.ts'
import { ErrorReply } from './error-replies.ts'

export interface TaskRoutesOptions {
  queue: Pick<PromptQueue, 'get' | 'positionOf'>
  store: Pick<PromptStore, 'get' | 'getByGatewayJobId' | 'logOf'>
  registry: Pick<WorkerRegistry, 'get'>
}

const Text = Type.Union([Type.String(), Type.Null()])
const PromptParams = Type.Object({ prompt_id: Type.String() })

const GatewayJob = Type.Object({
  gateway_job_id: Type.String(),
  status: Type.Enum(['queued', 'submitted', 'running', 'done', 'failed']),
  prompt_id: Type.String(),
})

const TaskStatus = Type.Object({
  prompt_id: Type.String(),
  worker_id: { ...Text, description: 'Where it runs or ran; null while it waits.' },
  worker_name: Text,
  status: Type.Enum(['queued', 'running', 'done', 'failed', 'cancelled']),
  progress: Type.Number({ minimum: 0, maximum: 100, description: 'Percent, from what the worker says.' }),
  message: { ...Text, description: 'Why it waits, or why it failed.' },
  queue_position: Type.Union([Type.Integer(), Type.Null()], {
    description: 'Place among those that wait, first is 1; 0 when it is with its worker and has not started.',
  }),
  execution_time: Type.Union([Type.Number(), Type.Null()], {
    description: 'Seconds since its start, or from start to end.',
  }),
})

const PromptLog = Type.Object({
  prompt_id: Type.String(),
  lines: Type.Array(Type.Object({ at: Type.Number({ description: 'Milliseconds since 1970.' }), text: Type.String() })),
})

/** A prompt the caller may see: its newest record, and the rest of what is known while it has not ended. */
interface Known {
  record: PromptRecord
  live: Prompt | undefined
}

const jobStatus: Record<PromptStatus, 'queued' | 'submitted' | 'running' | 'done' | 'failed'> = {
  queued: 'queued',
  dispatching: 'submitted',
  running: 'running',
  succeeded: 'done',
  failed: 'failed',
  cancelled: 'failed',
}

const taskStatus: Record<PromptStatus, 'queued' | 'running' | 'done' | 'failed' | 'cancelled'> = {
  queued: 'queued',
  dispatching: 'queued',
  running: 'running',
  succeeded: 'done',
  failed: 'failed',
  cancelled: 'cancelled',
}

/** `/api/task/…`: how far one prompt is, for flows that poll; and its log. */
export function taskRoutes({ queue, store, registry }: TaskRoutesOptions): FastifyPluginAsyncTypebox {
  function known(stored: PromptRecord | undefined, live: Prompt | undefined, identity: Identity): Known | undefined {
    const record = live?.record ?? stored
    return record?.admitted && sees(identity, record.owner) ? { record, live } : undefined
  }

  async function byPromptId(promptId: string, identity: Identity): Promise<Known> {
    const live = queue.get(promptId)
    const found = known(live ? undefined : await store.get(promptId), live, identity)
    if (!found) throw new HttpError(404, 'prompt_not_found', 'There is no prompt with this id')
    return found
  }

  return async (app) => {
    app.get(
      '/api/task/gateway/:gateway_job_id',
      {
        schema: {
          tags: ['prompts'],
          summary: 'The prompt of a gateway_job_id',
          params: Type.Object({ gateway_job_id: Type.String() }),
          response: { 200: GatewayJob, 404: ErrorReply },
        },
      },
      async (request) => {
        const { gateway_job_id } = request.params
        const stored = await store.getByGatewayJobId(gateway_job_id)
        const live = stored && queue.get(stored.promptId)
        // A client may have used its prompt_id again; then what lives under it is another job.
        const isSameJob = live?.record.gatewayJobId === gateway_job_id
        const found = known(stored, isSameJob ? live : undefined, request.identity)
        if (!found) throw new HttpError(404, 'job_not_found', 'There is no job with this id')
        return { gateway_job_id, status: jobStatus[found.record.status], prompt_id: found.record.promptId }
      },
    )

    app.get(
      '/api/task/:prompt_id/status',
      {
        schema: {
          tags: ['prompts'],
          summary: 'How far a prompt is',
          params: PromptParams,
          response: { 200: TaskStatus, 404: ErrorReply },
        },
      },
      async (request) => {
        const { record, live } = await byPromptId(request.params.prompt_id, request.identity)
        const worker = record.status === 'queued' || !record.workerId ? undefined : registry.get(record.workerId)
        return {
          prompt_id: record.promptId,
          worker_id: record.status === 'queued' ? null : (record.workerId ?? null),
          worker_name: worker?.config.name ?? null,
          status: taskStatus[record.status],
          progress: progressOf(record, live?.progress),
          message: messageOf(record, live, worker?.config.name),
          queue_position: record.status === 'dispatching' ? 0 : (queue.positionOf(record.promptId) ?? null),
          execution_time: executionSeconds(record),
        }
      },
    )

    app.get(
      '/api/gateway/prompts/:prompt_id/log',
      {
        schema: {
          tags: ['prompts'],
          summary: 'What happened to a prompt, step by step',
          params: PromptParams,
          response: { 200: PromptLog, 404: ErrorReply },
        },
      },
      async (request) => {
        const { record } = await byPromptId(request.params.prompt_id, request.identity)
        return { prompt_id: record.promptId, lines: await store.logOf(record.promptId) }
      },
    )
  }
}

/** Nodes that are done and the part of the one that runs, of all nodes; 100 is kept for success. */
export function progressOf(record: Pick<PromptRecord, 'status' | 'traits'>, progress: Progress | undefined): number {
  if (record.status === 'succeeded') return 100
  if (record.status !== 'running' || !progress) return 0
  const { finishedNodes, value, max } = progress
  const part = max > 0 ? Math.min(Math.max(value / max, 0), 1) : 0
  const percent = (100 * (finishedNodes + part)) / Math.max(record.traits.nodeCount, 1)
  return Math.min(Math.round(percent * 10) / 10, 99.9)
}

function messageOf(record: PromptRecord, live: Prompt | undefined, workerName: string | undefined): string | null {
  switch (record.status) {
    case 'queued':
      return live?.waitReason ?? null
    case 'dispatching':
      return workerName === undefined ? null : `sent to ${workerName}, which has not started it`
    case 'failed':
    case 'cancelled':
      return record.reason ?? null
    default:
      return null
  }
}

function executionSeconds({ status, startedAt, finishedAt }: PromptRecord): number | null {
  // One that waits again is not being executed, whatever its first attempt took.
  if (startedAt === undefined || status === 'queued' || status === 'dispatching') return null
  return Math.max((finishedAt ?? Date.now()) - startedAt, 0) / 1_000
}
