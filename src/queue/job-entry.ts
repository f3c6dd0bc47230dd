import { quotePython } from '../comfyui/python-json.ts'
import { member, parseJson } from '../comfyui/raw-json.ts'
import type { PromptRecord, PromptStatus } from '../store/store.ts'
import { numberText } from './outcome.ts'

/** Prompts in the form of `/api/jobs`, which shows one status where there are two or another name. */
export const JOB_STATUSES = {
  pending: ['queued', 'dispatching'],
  in_progress: ['running'],
  completed: ['succeeded'],
  failed: ['failed'],
  cancelled: ['cancelled'],
} as const satisfies Record<string, readonly PromptStatus[]>

export type JobStatus = keyof typeof JOB_STATUSES

export const isJobStatus = (text: string): text is JobStatus => Object.hasOwn(JOB_STATUSES, text)

function jobStatusOf(status: PromptStatus): JobStatus {
  switch (status) {
    case 'queued':
    case 'dispatching':
      return 'pending'
    case 'running':
      return 'in_progress'
    case 'succeeded':
      return 'completed'
    case 'failed':
    case 'cancelled':
      return status
    default:
      return status satisfies never
  }
}

/** JSON text of one job; `extra` are further members. What has no value is left out. */
export function jobText(record: PromptRecord, extra: readonly string[] = []): string {
  const members = [
    `"id": ${quotePython(record.promptId)}`,
    `"status": "${jobStatusOf(record.status)}"`,
    `"priority": ${numberText(record)}`,
    `"create_time": ${record.createdAt}`,
  ]
  const summary = record.summary?.trim().slice(1, -1)
  if (summary) members.push(summary)
  else if (record.status === 'running' && record.startedAt !== undefined) {
    members.push(`"execution_start_time": ${record.startedAt}`)
  }
  if (record.workflowId !== undefined) members.push(`"workflow_id": ${quotePython(record.workflowId)}`)
  return `{${[...members, ...extra].join(', ')}}`
}

/** What the detail of an ended job has beside the listing, cut from its history entry. */
export function endedJobMembers(entry: string): string[] {
  const root = parseJson(entry)
  const tuple = member(root, 'prompt')
  const [, , graph, extraData] = tuple?.kind === 'array' ? tuple.items : []
  const source = (node: typeof graph): string => (node ? entry.slice(node.start, node.end) : 'null')
  return [
    `"outputs": ${source(member(root, 'outputs'))}`,
    `"execution_status": ${source(member(root, 'status'))}`,
    `"workflow": {"prompt": ${source(graph)}, "extra_data": ${source(extraData)}}`,
  ]
}
