import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { isCanonicalUuid } from '../../comfyui/protocol.ts'
import { dumpsPython } from '../../comfyui/python-json.ts'
import { decodeUtf8, type JsonNode, member, parseJson, stringValue } from '../../comfyui/raw-json.ts'
import type { PromptHistory } from '../../queue/history.ts'
import { endedJobMembers, isJobStatus, JOB_STATUSES, type JobStatus, jobText } from '../../queue/job-entry.ts'
import { type Prompt, sees } from '../../queue/prompt.ts'
import { shownParts } from '../../queue/prompt-body.ts'
import type { PromptQueue } from '../../queue/queue.ts'
import { dropPending, interruptRunning, type StopServices } from '../../queue/stop.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import type { JobQuery, PromptRecord, PromptStore } from '../../store/store.ts'
import { baseUrlOf, queryValue } from './comfy-request.ts'

export interface JobRoutesOptions {
  store: PromptStore
  queue: PromptQueue
  history: PromptHistory
  dispatcher: StopServices['dispatcher']
}

/** Jobs in one page, whatever it asks for. */
const MAX_PAGE = 10_000

/** ComfyUI refuses here with a message in `error` and nothing else. */
class JobQueryError extends Error {
  readonly body: object

  constructor(message: string, more: object = {}) {
    super(message)
    this.name = 'JobQueryError'
    this.body = { error: message, ...more }
  }
}

/** `/api/jobs*`: ComfyUI has them under `/api` only, so these paths are whole; register without prefix. */
export function jobRoutes(options: JobRoutesOptions): FastifyPluginAsync {
  const { store, queue, history } = options
  return async (app) => {
    app.setErrorHandler((error, _request, reply) => {
      if (error instanceof JobQueryError) return sendJson(reply.code(400), dumpsPython(error.body))
      throw error
    })

    app.get('/api/jobs', { schema: { hide: true } }, async (request, reply) => {
      const query = readJobQuery(request)
      const limit = Math.min(query.limit ?? MAX_PAGE, MAX_PAGE)
      const { prompts, total } = await store.list({ ...query, owner: request.identity.owner, limit })
      const pagination = dumpsPython({
        offset: query.offset,
        limit: query.limit ?? null,
        total,
        has_more: query.offset + prompts.length < total,
      })
      const jobs = prompts.map((record) => jobText(latest(queue, record)))
      return sendJson(reply, `{"jobs": [${jobs.join(', ')}], "pagination": ${pagination}}`)
    })

    app.get<{ Params: { id: string } }>('/api/jobs/:id', { schema: { hide: true } }, async (request, reply) => {
      const text = await detail(options, request, request.params.id)
      if (text !== undefined) return sendJson(reply, text)
      return sendJson(reply.code(404), '{"error": "Job not found"}')
    })

    app.post<{ Params: { id: string } }>('/api/jobs/:id/cancel', { schema: { hide: true } }, async (request, reply) => {
      const cancelled = await cancel(options, visible(queue, request, request.params.id))
      return sendJson(reply, dumpsPython({ cancelled }))
    })

    app.post('/api/jobs/cancel', { schema: { hide: true } }, async (request, reply) => {
      const prompts = readJobIds(request, queue).map((id) => visible(queue, request, id))
      const done = await Promise.all(prompts.map((prompt) => cancel(options, prompt)))
      return sendJson(reply, dumpsPython({ cancelled: done.some(Boolean) }))
    })
  }

  async function detail(
    services: JobRoutesOptions,
    request: FastifyRequest,
    promptId: string,
  ): Promise<string | undefined> {
    const { owner } = request.identity
    const record = await services.store.get(promptId)
    if (!record?.admitted || record.owner !== owner) return undefined
    const entry = await history.entry(promptId, owner, baseUrlOf(request))
    // It may have ended between the two questions; then the record is asked for again.
    if (entry !== undefined) {
      const ended = record.finishedAt === undefined ? await services.store.get(promptId) : record
      return jobText(ended ?? record, endedJobMembers(entry))
    }
    const body = await services.store.readBody(promptId)
    const { graph, extraData } = body
      ? shownParts(body.text, record.clientId, record.createdAt)
      : { graph: '{}', extraData: '{}' }
    return jobText(latest(services.queue, record), [`"workflow": {"prompt": ${graph}, "extra_data": ${extraData}}`])
  }
}

const sendJson = (reply: FastifyReply, text: string): FastifyReply => reply.type(JSON_TYPE).send(text)

/** The record as it is now: the store may be a moment behind with a prompt that has just started. */
const latest = (queue: PromptQueue, record: PromptRecord): PromptRecord => queue.get(record.promptId)?.record ?? record

function visible(queue: PromptQueue, request: FastifyRequest, promptId: string): Prompt | undefined {
  const prompt = queue.get(promptId)
  return prompt?.record.admitted && sees(request.identity, prompt.record.owner) ? prompt : undefined
}

async function cancel(services: StopServices, prompt: Prompt | undefined): Promise<boolean> {
  if (!prompt) return false
  return (await dropPending(services, prompt)) || (await interruptRunning(services, prompt))
}

function readJobQuery(request: FastifyRequest): Omit<JobQuery, 'owner'> {
  const statuses = readStatuses(queryValue(request, 'status'))
  const sortBy = queryValue(request, 'sort_by') ?? 'created_at'
  if (sortBy !== 'created_at' && sortBy !== 'execution_duration') {
    throw new JobQueryError('sort_by must be one of: created_at, execution_duration')
  }
  const sortOrder = queryValue(request, 'sort_order') ?? 'desc'
  if (sortOrder !== 'asc' && sortOrder !== 'desc') throw new JobQueryError('sort_order must be one of: asc, desc')
  const limit = integerOf(queryValue(request, 'limit'), 'limit must be a positive integer')
  if (limit !== undefined && limit <= 0) throw new JobQueryError('limit must be a positive integer')
  const offset = integerOf(queryValue(request, 'offset'), 'offset must be an integer') ?? 0
  return {
    statuses: statuses.flatMap((status) => JOB_STATUSES[status]),
    workflowId: queryValue(request, 'workflow_id') || undefined,
    sortBy,
    descending: sortOrder === 'desc',
    limit,
    offset: Math.max(0, offset),
  }
}

function readStatuses(text: string | undefined): JobStatus[] {
  if (!text) return []
  const names = text.split(',').map((name) => name.trim().toLowerCase())
  const invalid = names.filter((name) => !isJobStatus(name))
  if (invalid.length > 0) throw new JobQueryError(`Invalid status value(s): ${invalid.join(', ')}`)
  return [...new Set(names.filter(isJobStatus))]
}

function integerOf(text: string | undefined, message: string): number | undefined {
  if (text === undefined) return undefined
  if (!/^\s*[+-]?\d{1,15}\s*$/.test(text)) throw new JobQueryError(message)
  return Number(text)
}

/** The ids of a batch. Ours need not be UUIDs: an id that is known is valid, too. */
function readJobIds({ body }: FastifyRequest, queue: PromptQueue): string[] {
  let root: JsonNode
  try {
    root = parseJson(decodeUtf8(Buffer.isBuffer(body) ? body : Buffer.alloc(0)))
  } catch {
    throw new JobQueryError('Request body must be valid JSON')
  }
  const list = member(root, 'job_ids')
  if (list?.kind !== 'array') throw new JobQueryError('job_ids must be a list')
  const ids = list.items.map(stringValue)
  const isValid = (id: string | undefined): id is string =>
    id !== undefined && (isCanonicalUuid(id) || queue.get(id) !== undefined)
  const invalid = list.items.filter((_item, index) => !isValid(ids[index]))
  if (invalid.length > 0) {
    throw new JobQueryError('job_ids contains invalid id(s)', { invalid_ids: invalid.map(invalidText) })
  }
  return [...new Set(ids.filter(isValid))]
}

const invalidText = (node: JsonNode): string =>
  stringValue(node) ?? ('text' in node ? node.text.slice(node.start, node.end) : node.kind)
