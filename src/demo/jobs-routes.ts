import { isCanonicalUuid } from '../comfyui/protocol.ts'
import { type Answer, json, type RouteRequest } from './answers.ts'
import type { HistoryEntry } from './engine.ts'
import { historyStatus } from './history-json.ts'
import { isPyObject, type PyDumpable, type PyObject, parsePyJson } from './py-json.ts'
import type { QueueItem } from './queue-heap.ts'
import type { WorkerState } from './worker-state.ts'

const STATUSES = ['pending', 'in_progress', 'completed', 'failed', 'cancelled'] as const
type JobStatus = (typeof STATUSES)[number]

interface Job {
  item: QueueItem
  status: JobStatus
  entry: HistoryEntry | undefined
}

/** `/api/jobs*`, which releases of 2026 have. Undefined for a path that is none of them. */
export function jobsRoute(state: WorkerState, request: RouteRequest): Answer | undefined {
  const [, , , id, action, ...rest] = request.path.split('/')
  if (rest.length > 0) return undefined
  if (request.method !== 'POST') {
    if (id === undefined) return listJobs(state, request.query)
    return action === undefined ? jobDetail(state, decodeURIComponent(id)) : undefined
  }
  if (id === 'cancel' && action === undefined) return cancelMany(state, request)
  return id !== undefined && action === 'cancel'
    ? json({ cancelled: cancel(state, decodeURIComponent(id)) })
    : undefined
}

function listJobs(state: WorkerState, query: URLSearchParams): Answer {
  const statuses = query
    .get('status')
    ?.split(',')
    .map((status) => status.trim().toLowerCase())
  const invalid = statuses?.filter((status) => !STATUSES.some((known) => known === status)) ?? []
  if (invalid.length > 0) return json({ error: `Invalid status value(s): ${invalid.join(', ')}` }, 400)
  const sortBy = query.get('sort_by') ?? 'created_at'
  if (sortBy !== 'created_at' && sortBy !== 'execution_duration') {
    return json({ error: 'sort_by must be one of: created_at, execution_duration' }, 400)
  }
  const sortOrder = query.get('sort_order') ?? 'desc'
  if (sortOrder !== 'asc' && sortOrder !== 'desc') return json({ error: 'sort_order must be one of: asc, desc' }, 400)
  const limit = integer(query.get('limit'))
  if (limit === 'bad' || (limit !== null && limit <= 0)) return json({ error: 'limit must be a positive integer' }, 400)
  const offset = integer(query.get('offset'))
  if (offset === 'bad') return json({ error: 'offset must be an integer' }, 400)
  const workflowId = query.get('workflow_id')
  const sign = sortOrder === 'asc' ? 1 : -1
  const key = sortBy === 'created_at' ? createTime : duration
  const found = allJobs(state)
    .filter((job) => !statuses || statuses.includes(job.status))
    .filter((job) => workflowId === null || workflowIdOf(job.item) === workflowId)
    .toSorted((a, b) => sign * (key(a) - key(b)))
  const start = Math.max(0, offset ?? 0)
  const page = limit === null ? found.slice(start) : found.slice(start, start + limit)
  return json({
    jobs: page.map(summary),
    pagination: { offset: start, limit, total: found.length, has_more: start + page.length < found.length },
  })
}

function jobDetail(state: WorkerState, id: string): Answer {
  const job = allJobs(state).find(({ item }) => item.promptId === id)
  if (!job) return json({ error: 'Job not found' }, 404)
  const { item, entry } = job
  return json({
    ...summary(job),
    ...(entry ? { outputs: entry.outputs, execution_status: historyStatus(entry) } : {}),
    workflow: { prompt: item.prompt, extra_data: item.extraData },
  })
}

function cancelMany(state: WorkerState, request: RouteRequest): Answer {
  let ids: unknown
  try {
    const body = parsePyJson(request.body.toString('utf8'))
    ids = isPyObject(body) ? body.get('job_ids') : undefined
  } catch {
    return json({ error: 'Request body must be valid JSON' }, 400)
  }
  if (!Array.isArray(ids)) return json({ error: 'job_ids must be a list' }, 400)
  const valid = ids.filter((id): id is string => typeof id === 'string' && isCanonicalUuid(id))
  if (valid.length !== ids.length) {
    const invalid = ids.filter((id) => !valid.includes(id)).map(String)
    return json({ error: 'job_ids contains invalid id(s)', invalid_ids: invalid }, 400)
  }
  return json({ cancelled: valid.map((id) => cancel(state, id)).some(Boolean) })
}

function cancel({ engine }: WorkerState, id: string): boolean {
  if (engine.running?.promptId !== id) return engine.remove(id)
  engine.interrupt()
  return true
}

function allJobs({ engine }: WorkerState): Job[] {
  const jobs: Job[] = []
  if (engine.running) jobs.push({ item: engine.running, status: 'in_progress', entry: undefined })
  for (const item of engine.pending) jobs.push({ item, status: 'pending', entry: undefined })
  for (const entry of engine.history.values()) jobs.push({ item: entry.item, status: statusOf(entry), entry })
  return jobs
}

function statusOf({ outcome }: HistoryEntry): JobStatus {
  return outcome === 'success' ? 'completed' : outcome === 'interrupted' ? 'cancelled' : 'failed'
}

/** Members without a value are left out, as ComfyUI does. */
function summary({ item, status, entry }: Job): { [key: string]: PyDumpable | undefined } {
  const files = entry ? filesOf(entry) : []
  const error = entry?.messages.find(([type]) => type === 'execution_error')?.[1]
  return {
    id: item.promptId,
    status,
    priority: item.number,
    create_time: item.extraData.get('create_time'),
    execution_start_time: timeOf(entry, 'execution_start'),
    execution_end_time: entry?.messages.at(-1)?.[1].timestamp,
    execution_error: error,
    outputs_count: entry ? files.length : undefined,
    preview_output: files.at(-1),
    workflow_id: workflowIdOf(item),
  }
}

function filesOf(entry: HistoryEntry): PyDumpable[] {
  const files: PyDumpable[] = []
  for (const [nodeId, output] of entry.outputs) {
    const images = typeof output === 'object' && output !== null && 'images' in output ? output.images : []
    if (!Array.isArray(images)) continue
    for (const image of images) files.push({ ...image, nodeId, mediaType: 'images' })
  }
  return files
}

const timeOf = (entry: HistoryEntry | undefined, type: string): PyDumpable | undefined =>
  entry?.messages.find(([each]) => each === type)?.[1].timestamp

const createTime = ({ item }: Job): number => Number(dumpable(item.extraData.get('create_time')))

const duration = ({ entry }: Job): number =>
  Number(entry?.messages.at(-1)?.[1].timestamp ?? 0) - Number(timeOf(entry, 'execution_start') ?? 0)

const dumpable = (value: ReturnType<PyObject['get']>): string =>
  typeof value === 'object' && value !== null && 'text' in value ? value.text : '0'

function workflowIdOf(item: QueueItem): string | undefined {
  const info = item.extraData.get('extra_pnginfo')
  const workflow = isPyObject(info) ? info.get('workflow') : undefined
  const id = isPyObject(workflow) ? workflow.get('id') : undefined
  return typeof id === 'string' ? id : undefined
}

function integer(value: string | null): number | null | 'bad' {
  if (value === null) return null
  return /^-?\d+$/.test(value) ? Number(value) : 'bad'
}
