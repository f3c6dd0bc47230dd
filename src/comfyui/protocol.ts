/** ComfyUI's own names on the wire and guards for what a worker says. snake_case ends here. */

/** Messages of a prompt's end; `execution_error` of type `ExecutionBlocked` is not one of them. */
export type TerminalType = 'execution_success' | 'execution_error' | 'execution_interrupted'

/** What the gateway reads of a worker's text frame; the text itself is passed on. */
export interface WorkerMessage {
  type: string
  data: Readonly<Record<string, unknown>>
}

/** One entry of a worker's `GET /queue`, reduced to what reconciling needs. */
export interface RemotePrompt {
  id: string
  /** The client id it was posted under. */
  clientId: string | undefined
}

export interface RemoteQueue {
  running: readonly RemotePrompt[]
  pending: readonly RemotePrompt[]
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Reads a text frame. Undefined when it is not a ComfyUI message (a worker's bytes are untrusted). */
export function parseWorkerMessage(text: string): WorkerMessage | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!isObject(value) || typeof value.type !== 'string' || !isObject(value.data)) return undefined
  return { type: value.type, data: value.data }
}

/** The prompt a message speaks of, when it says so. */
export function promptIdOf(message: WorkerMessage): string | undefined {
  const id = message.data.prompt_id
  return typeof id === 'string' ? id : undefined
}

/** The terminal type of a message, or undefined for all others. */
export function terminalTypeOf(message: WorkerMessage): TerminalType | undefined {
  switch (message.type) {
    case 'execution_success':
    case 'execution_interrupted':
      return message.type
    case 'execution_error':
      // A blocked node reports itself this way while the prompt goes on (execution.py, ExecutionBlocker).
      return message.data.exception_type === 'ExecutionBlocked' ? undefined : message.type
    default:
      return undefined
  }
}

/** True for the last message of a prompt: `executing` without a node. */
export const isExecutingNull = (message: WorkerMessage): boolean =>
  message.type === 'executing' && message.data.node === null

/** What ComfyUI itself says of its queue and of one prompt; the rest are events of custom nodes. */
const OWN_TYPES = new Set([
  'executed',
  'executing',
  'execution_cached',
  'execution_error',
  'execution_interrupted',
  'execution_start',
  'execution_success',
  'feature_flags',
  'logs',
  'progress',
  'progress_state',
  'status',
])

/** True for a custom node's event that speaks of no prompt: ComfyUI sends it to every socket. */
export const isForEverybody = (message: WorkerMessage): boolean =>
  !OWN_TYPES.has(message.type) && !Object.hasOwn(message.data, 'prompt_id')

/** Reads `GET /queue`. Undefined when the answer is not a queue. */
export function parseRemoteQueue(value: unknown): RemoteQueue | undefined {
  if (!isObject(value)) return undefined
  const running = promptsOf(value.queue_running)
  const pending = promptsOf(value.queue_pending)
  return running && pending ? { running, pending } : undefined
}

function promptsOf(list: unknown): RemotePrompt[] | undefined {
  if (!Array.isArray(list)) return undefined
  const prompts: RemotePrompt[] = []
  for (const item of list) {
    if (!Array.isArray(item) || typeof item[1] !== 'string') return undefined
    const extra: unknown = item[3]
    const clientId = isObject(extra) && typeof extra.client_id === 'string' ? extra.client_id : undefined
    prompts.push({ id: item[1], clientId })
  }
  return prompts
}

const CANONICAL_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Workers of 2026 take only ids of this form; all others are mapped to one before they leave. */
export const isCanonicalUuid = (id: string): boolean => CANONICAL_UUID.test(id)
