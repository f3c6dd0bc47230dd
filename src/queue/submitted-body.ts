import { createHash } from 'node:crypto'
import { isTruthy } from '../comfyui/python-json.ts'
import {
  BadUtf8Error,
  decodeUtf8,
  detach,
  type JsonNode,
  type JsonObject,
  JsonSyntaxError,
  JsonTooDeepError,
  JsonTooManyNodesError,
  member,
  numberSource,
  parseJson,
  stringValue,
} from '../comfyui/raw-json.ts'
import { NO_PROMPT_BODY, SERVER_ERROR_BODY } from '../comfyui/validate.ts'
import { HttpError } from '../errors.ts'

/** What the gateway reads of a `POST /prompt` before anything is decided. */
export interface SubmittedBody {
  text: string
  root: JsonObject
  graph: JsonNode
  /** SHA-256 of the bytes, hex. */
  hash: string
  /** Undefined: to be minted. */
  promptId: string | undefined
  clientId: string | undefined
  order: 'front' | number | undefined
  priority: number
  /** The client said a priority, so it speaks the gateway's own dialect. */
  saidPriority: boolean
  workflowId: string | undefined
  partialExecutionTargets: JsonNode | undefined
}

/** An answer that ComfyUI itself would give, to the letter. */
export class ComfyAnswer extends Error {
  readonly status: number
  readonly contentType: string
  readonly body: string

  constructor(status: number, contentType: string, body: string) {
    super(`answered with ${status}`)
    this.name = 'ComfyAnswer'
    this.status = status
    this.contentType = contentType
    this.body = body
  }
}

export const JSON_TYPE = 'application/json; charset=utf-8'
const TEXT_TYPE = 'text/plain; charset=utf-8'

/** What aiohttp answers when a handler raises. */
export const serverError = (): ComfyAnswer => new ComfyAnswer(500, TEXT_TYPE, SERVER_ERROR_BODY)

class InvalidPromptIdError extends HttpError {
  constructor(message: string) {
    super(400, 'invalid_prompt_id', message)
  }
}

const MAX_ID_LENGTH = 256
const MAX_PRIORITY = 1_000_000

/** Reads a body. Throws ComfyAnswer where ComfyUI has an answer of its own, HttpError 400 for what only we refuse. */
export function readSubmittedBody(bytes: Uint8Array): SubmittedBody {
  const { text, root } = parseBody(bytes)
  const graph = member(root, 'prompt')
  if (root.kind !== 'object' || graph === undefined) {
    if (root.kind === 'number' || root.kind === 'literal') throw serverError()
    throw new ComfyAnswer(400, JSON_TYPE, NO_PROMPT_BODY)
  }
  const extra = member(root, 'extra_data')
  const clientNode = member(root, 'client_id')
  // ComfyUI writes the client id into extra_data, which fails when that is no object.
  if (extra !== undefined && extra.kind !== 'object' && clientNode !== undefined) throw serverError()
  const clientId = idText(clientNode) ?? idText(member(extra, 'client_id'))
  const priorityNode = member(root, 'priority')
  return {
    text,
    root,
    graph,
    hash: createHash('sha256').update(bytes).digest('hex'),
    promptId: readPromptId(member(root, 'prompt_id')),
    clientId: clientId === '' ? undefined : clientId,
    order: readOrder(root),
    priority: readPriority(priorityNode),
    saidPriority: priorityNode !== undefined,
    workflowId: idText(member(member(member(extra, 'extra_pnginfo'), 'workflow'), 'id')),
    partialExecutionTargets: member(root, 'partial_execution_targets'),
  }
}

function parseBody(bytes: Uint8Array): { text: string; root: JsonNode } {
  try {
    const text = decodeUtf8(bytes)
    return { text, root: parseJson(text) }
  } catch (error) {
    if (error instanceof BadUtf8Error) throw new HttpError(400, 'invalid_encoding', 'The body is not UTF-8')
    if (error instanceof JsonTooDeepError) throw new HttpError(400, 'json_too_deep', 'The JSON is nested too deeply')
    if (error instanceof JsonTooManyNodesError)
      throw new HttpError(400, 'json_too_large', 'The JSON has too many values')
    if (error instanceof JsonSyntaxError) throw serverError()
    throw error
  }
}

function readPromptId(node: JsonNode | undefined): string | undefined {
  if (node === undefined || (node.kind === 'literal' && node.value === null)) return undefined
  const id = idText(node)
  if (id === '') return undefined
  if (id === undefined) throw new InvalidPromptIdError('prompt_id must be a string')
  // It travels in URLs, headers of others and log lines.
  if (id.length > MAX_ID_LENGTH || /\p{Cc}/u.test(id)) {
    throw new InvalidPromptIdError(`prompt_id must have at most ${MAX_ID_LENGTH} characters and no control characters`)
  }
  return id
}

/** ComfyUI puts ids through `str()`. Detached: an id must not keep a body of 100 MB in memory. */
function idText(node: JsonNode | undefined): string | undefined {
  if (node?.kind === 'string') return detach(stringValue(node) ?? '')
  if (node?.kind === 'number') return detach(numberSource(node))
  return undefined
}

function readOrder(root: JsonObject): 'front' | number | undefined {
  const number = member(root, 'number')
  if (number !== undefined) return pythonFloatOf(number)
  return isTruthy(member(root, 'front')) ? 'front' : undefined
}

/** What Python's `float()` makes of it; it raises for the rest, and NaN has no place in any order. */
function pythonFloatOf(node: JsonNode): number {
  if (node.kind === 'literal' && node.value !== null) return node.value ? 1 : 0
  const source = node.kind === 'number' ? numberSource(node) : stringValue(node)?.trim()
  const value = source === undefined || source === '' ? Number.NaN : Number(source)
  if (!Number.isFinite(value)) throw serverError()
  return value
}

function readPriority(node: JsonNode | undefined): number {
  if (node === undefined || (node.kind === 'literal' && node.value === null)) return 0
  const value = node.kind === 'number' ? Number(numberSource(node)) : Number.NaN
  if (!Number.isInteger(value) || Math.abs(value) > MAX_PRIORITY) {
    throw new HttpError(
      400,
      'invalid_priority',
      `priority must be an integer between -${MAX_PRIORITY} and ${MAX_PRIORITY}`,
    )
  }
  return value
}
