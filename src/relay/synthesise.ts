import { dumpsPython, RawJson } from '../comfyui/python-json.ts'
import { type JsonNode, JsonSyntaxError, member, membersOf, parseJson, stringValue } from '../comfyui/raw-json.ts'
import type { PromptId } from '../store/store.ts'

interface StoredMessage {
  type: string
  data: JsonNode
}

/**
 * The frames that tell a finished prompt again, from its history entry as clients see it (the entry itself, without the
 * id around it): `execution_start`, `executed` for each output, and what ended it. Outputs are taken over byte for
 * byte. `now` (milliseconds since the epoch) stands in for times that the entry does not have. Undefined when the text
 * is not a history entry.
 */
export function synthesise(promptId: PromptId, entryText: string, now: number): string[] | undefined {
  const entry = parseEntry(entryText)
  if (entry?.kind !== 'object') return undefined
  const source = (node: JsonNode): RawJson => new RawJson(entryText.slice(node.start, node.end))
  const messages = storedMessages(entry)
  const ownData = { prompt_id: promptId, timestamp: now }

  const start = messages.find(({ type }) => type === 'execution_start')
  const frames = [dumpsPython({ type: 'execution_start', data: start ? source(start.data) : ownData })]

  const outputs = member(entry, 'outputs')
  const meta = member(entry, 'meta')
  for (const [node, output] of outputs?.kind === 'object' ? membersOf(outputs) : []) {
    const display = stringValue(member(member(meta, node), 'display_node')) ?? node
    const data = { node, display_node: display, output: source(output), prompt_id: promptId }
    frames.push(dumpsPython({ type: 'executed', data }))
  }

  const end = messages.findLast(isTerminal)
  frames.push(
    end
      ? dumpsPython({ type: end.type, data: source(end.data) })
      : dumpsPython(missingEnd(stringValue(member(member(entry, 'status'), 'status_str')), ownData)),
  )
  return frames
}

function parseEntry(text: string): JsonNode | undefined {
  try {
    return parseJson(text)
  } catch (error) {
    if (error instanceof JsonSyntaxError) return undefined
    throw error
  }
}

function storedMessages(entry: JsonNode): StoredMessage[] {
  const list = member(member(entry, 'status'), 'messages')
  if (list?.kind !== 'array') return []
  const messages: StoredMessage[] = []
  for (const item of list.items) {
    const [typeNode, data] = item.kind === 'array' ? item.items : []
    const type = stringValue(typeNode)
    if (type !== undefined && data?.kind === 'object') messages.push({ type, data })
  }
  return messages
}

const isTerminal = ({ type }: StoredMessage): boolean =>
  type === 'execution_success' || type === 'execution_error' || type === 'execution_interrupted'

/** Entries of old releases, and of prompts that no worker ran, may have no terminal message. */
function missingEnd(status: string | undefined, ownData: { prompt_id: PromptId; timestamp: number }): object {
  if (status !== 'error') return { type: 'execution_success', data: ownData }
  const data = {
    prompt_id: ownData.prompt_id,
    node_id: '',
    node_type: '',
    executed: [],
    exception_message: 'The prompt failed\n',
    exception_type: 'PromptFailed',
    traceback: [],
    current_inputs: {},
    current_outputs: [],
    timestamp: ownData.timestamp,
  }
  return { type: 'execution_error', data }
}
