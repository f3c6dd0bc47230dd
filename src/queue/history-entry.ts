import { quotePython } from '../comfyui/python-json.ts'
import { type JsonNode, type JsonObject, member, parseJson, stringValue, toValue } from '../comfyui/raw-json.ts'
import { Splicer } from '../comfyui/raw-json-edit.ts'
import { clientSubfolder, fileRecordsIn, plainPathsIn, renameRecord, type WorkerFile } from '../files/names.ts'
import type { OutputFile, PromptRecord } from '../store/store.ts'
import { numberText } from './outcome.ts'
import { shownExtraData } from './prompt-body.ts'

/** How a prompt ended, read from its worker's history and put into the clients' form. */
export interface MappedEntry {
  /** JSON text of the entry. */
  text: string
  status: 'succeeded' | 'failed' | 'cancelled'
  reason: string | undefined
  files: readonly OutputFile[]
  summary: string
  /** Data of an `executed` message for each node with an output, as the worker sent or would have sent it. */
  executed: readonly { nodeId: string; data: string }[]
  /** `[type, data]` of the message that ended it, when history has one. */
  terminal: { type: string; data: string } | undefined
}

export interface EntryMapping {
  /** The whole answer of `GET /history/{id}`. */
  answer: string
  prompt: PromptRecord
  /** The client's own text of the graph. */
  graph: string
  workerId: string
  tokenOf(file: WorkerFile): string
}

/** Undefined when the answer holds no entry for the prompt (a worker's bytes are untrusted). */
export function mapHistoryEntry(mapping: EntryMapping): MappedEntry | undefined {
  const { prompt } = mapping
  const whole = parseJson(mapping.answer)
  const node = member(whole, prompt.upstreamId)
  if (node?.kind !== 'object') return undefined
  const source = mapping.answer.slice(node.start, node.end)
  const text = renameId(source, prompt)
  const entry = parseJson(text)
  if (entry.kind !== 'object') return undefined

  const splicer = new Splicer(text)
  const tuple = member(entry, 'prompt')
  if (tuple?.kind === 'array') {
    const [number, id, graph, extra] = tuple.items
    if (number) splicer.replace(number, numberText(prompt))
    if (id) splicer.replace(id, quotePython(prompt.promptId))
    if (graph) splicer.replace(graph, mapping.graph)
    if (extra) splicer.replace(extra, shownExtraData(text, extra, prompt.clientId, prompt.createdAt))
  }
  const outputs = member(entry, 'outputs')
  const files: OutputFile[] = []
  const previews: { file: OutputFile; nodeId: string; mediaType: string }[] = []
  let outputsCount = 0
  for (const { nodeId, mediaType, node: list } of outputLists(outputs)) {
    if (list.kind === 'array' && mediaType !== 'animated') outputsCount += list.items.length
    for (const record of fileRecordsIn(list)) {
      const file = { ...record.file, workerId: mapping.workerId, token: mapping.tokenOf(record.file) }
      renameRecord(splicer, record, file.token, { url: true })
      files.push(file)
      previews.push({ file, nodeId, mediaType })
    }
    for (const file of plainPathsIn(list)) {
      files.push({ ...file, workerId: mapping.workerId, token: mapping.tokenOf(file) })
    }
  }
  // A worker's word for it that its messages are about this prompt is not enough.
  for (const { node } of messagesOf(entry)) splicer.setMember(node, 'prompt_id', quotePython(prompt.promptId))
  const mapped = splicer.apply()
  const done = parseJson(mapped)
  const messages = messagesOf(done)
  const terminal = messages.findLast(({ type }) => TERMINAL.has(type))
  const succeeded = stringValue(member(member(done, 'status'), 'status_str')) === 'success'
  const interrupted = terminal?.type === 'execution_interrupted'
  return {
    text: mapped,
    executed: executedData(mapped, done, prompt.promptId),
    status: succeeded ? 'succeeded' : interrupted ? 'cancelled' : 'failed',
    reason: succeeded ? undefined : interrupted ? 'interrupted' : errorText(terminal?.node),
    files,
    summary: summaryOf({ messages, terminal, outputsCount, preview: bestPreview(previews), text: mapped }),
    terminal: terminal && { type: terminal.type, data: mapped.slice(terminal.node.start, terminal.node.end) },
  }
}

function executedData(text: string, entry: JsonNode, promptId: string): { nodeId: string; data: string }[] {
  const outputs = member(entry, 'outputs')
  if (outputs?.kind !== 'object') return []
  return outputs.members.map(({ key: nodeId, value }) => {
    const display = stringValue(member(member(member(entry, 'meta'), nodeId), 'display_node')) ?? nodeId
    const output = text.slice(value.start, value.end)
    return {
      nodeId,
      data:
        `{"node": ${quotePython(nodeId)}, "display_node": ${quotePython(display)}, ` +
        `"output": ${output}, "prompt_id": ${quotePython(promptId)}}`,
    }
  })
}

/** The upstream id is ours and a UUID, so as a JSON string it stands for nothing else. */
export function renameId(text: string, prompt: Pick<PromptRecord, 'promptId' | 'upstreamId'>): string {
  if (prompt.promptId === prompt.upstreamId) return text
  // A function: in a string `$&` and its like, which a client may put in an id, would stand for parts of the text.
  return text.replaceAll(`"${prompt.upstreamId}"`, () => quotePython(prompt.promptId))
}

const TERMINAL = new Set(['execution_success', 'execution_error', 'execution_interrupted'])

interface StatusMessage {
  type: string
  node: JsonObject
}

function messagesOf(entry: JsonNode): StatusMessage[] {
  const list = member(member(entry, 'status'), 'messages')
  if (list?.kind !== 'array') return []
  return list.items.flatMap((item) => {
    if (item.kind !== 'array') return []
    const type = stringValue(item.items[0])
    const node = item.items[1]
    return type !== undefined && node?.kind === 'object' ? [{ type, node }] : []
  })
}

function* outputLists(outputs: JsonNode | undefined): Generator<{ nodeId: string; mediaType: string; node: JsonNode }> {
  if (outputs?.kind !== 'object') return
  for (const { key: nodeId, value: output } of outputs.members) {
    if (output.kind !== 'object') continue
    for (const { key: mediaType, value: node } of output.members) yield { nodeId, mediaType, node }
  }
}

/** A kept result tells more than a passing preview. */
function bestPreview<T extends { file: OutputFile }>(previews: readonly T[]): T | undefined {
  return previews.find(({ file }) => file.type === 'output') ?? previews[0]
}

function errorText(node: JsonNode | undefined): string {
  const message = stringValue(member(node, 'exception_message'))?.trim()
  const type = stringValue(member(node, 'exception_type'))
  return (message || type || 'the worker reports an error').slice(0, 1_000)
}

function timeOf(messages: readonly StatusMessage[], types: readonly string[]): number | undefined {
  const found = messages.findLast(({ type }) => types.includes(type))
  const at = found && member(found.node, 'timestamp')
  const value = at ? toValue(at) : undefined
  return typeof value === 'number' ? value : undefined
}

/** What `/api/jobs` lists of an ended prompt, in its names and order. */
function summaryOf(of: {
  messages: readonly StatusMessage[]
  terminal: StatusMessage | undefined
  outputsCount: number
  preview: { file: OutputFile; nodeId: string; mediaType: string } | undefined
  text: string
}): string {
  const members: string[] = []
  const start = timeOf(of.messages, ['execution_start'])
  const end = timeOf(of.messages, [...TERMINAL])
  if (start !== undefined) members.push(`"execution_start_time": ${start}`)
  if (end !== undefined) members.push(`"execution_end_time": ${end}`)
  if (of.terminal?.type === 'execution_error') {
    members.push(`"execution_error": ${of.text.slice(of.terminal.node.start, of.terminal.node.end)}`)
  }
  members.push(`"outputs_count": ${of.outputsCount}`)
  if (of.preview) {
    const { file, nodeId, mediaType } = of.preview
    members.push(
      `"preview_output": {"filename": ${quotePython(file.filename)}, ` +
        `"subfolder": ${quotePython(clientSubfolder(file.token, file.subfolder))}, "type": "${file.type}", ` +
        `"nodeId": ${quotePython(nodeId)}, "mediaType": ${quotePython(mediaType)}}`,
    )
  }
  return `{${members.join(', ')}}`
}
