import type { Logger } from 'pino'
import { decodeFrame, encodeFrame, isResultFrame, withPromptId } from '../comfyui/frames.ts'
import { promptIdOf, type WorkerMessage } from '../comfyui/protocol.ts'
import { quotePython } from '../comfyui/python-json.ts'
import { type JsonNode, member, parseJson, stringValue } from '../comfyui/raw-json.ts'
import { Splicer } from '../comfyui/raw-json-edit.ts'
import type { WorkerDisks } from '../files/disks.ts'
import { withClientNames } from '../files/name-beside.ts'
import { fileRecordsIn, renameRecord, type WorkerFile } from '../files/names.ts'
import type { PromptBody } from '../store/store.ts'
import type { Worker } from '../workers/worker.ts'
import { retryUntil } from './durably.ts'
import type { PromptEvents } from './events.ts'
import { type MappedEntry, mapHistoryEntry, renameId } from './history-entry.ts'
import { frameOf, startData } from './outcome.ts'
import type { Prompt } from './prompt.ts'
import { shownParts } from './prompt-body.ts'

export interface RunMessagesOptions {
  prompt: Prompt
  worker: Worker
  events: PromptEvents
  disks: WorkerDisks
  log: Logger
  signal: AbortSignal
}

/**
 * What is said of one attempt: puts its worker's messages and result into the clients' form (ids, names of files), passes
 * them on, and remembers what the client has heard, so that the end can make up for what was missed.
 */
export class RunMessages {
  readonly #options: RunMessagesOptions
  #wasStartTold = false
  #terminalText: string | undefined
  readonly #cachedNodes = new Set<string>()
  readonly #toldOutputs = new Set<string>()
  readonly #tokens = new Map<string, string>()

  constructor(options: RunMessagesOptions) {
    this.#options = options
  }

  /** The client has heard `execution_start`. */
  get wasStartTold(): boolean {
    return this.#wasStartTold
  }

  /** The message that ended it was heard. */
  get hasTerminal(): boolean {
    return this.#terminalText !== undefined
  }

  /** Keeps the message that ends it; it is told when the result is stored. */
  keepTerminal(text: string): void {
    this.#terminalText = withClientNames(text, this.#options.prompt.record.traits.inputs)
  }

  /** Sees to it that the client hears `execution_start` before anything else. */
  tellStart(): void {
    if (this.#wasStartTold) return
    this.#wasStartTold = true
    const { prompt, events } = this.#options
    const text = frameOf('execution_start', startData(prompt.promptId, Date.now()))
    events.publish({ kind: 'message', prompt: prompt.ref, type: 'execution_start', text })
  }

  /** Passes a message on that does not end the prompt. */
  async tell(message: WorkerMessage, text: string): Promise<void> {
    const { prompt, events } = this.#options
    this.#noteProgress(message)
    const mapped = await this.#map(message, text)
    if (mapped === undefined) return
    if (message.type === 'execution_start') this.#wasStartTold = true
    else this.tellStart()
    const kind = promptIdOf(message) === undefined && message.type !== 'executing' ? 'workerMessage' : 'message'
    events.publish({ kind, prompt: prompt.ref, type: message.type, text: mapped })
  }

  /** Passes a binary frame on; what is none is dropped. */
  tellFrame(bytes: Buffer): void {
    const { prompt, events } = this.#options
    const frame = decodeFrame(bytes)
    if (!frame) return
    this.tellStart()
    const own = frame.kind === 'image-with-metadata' ? encodeFrame(withPromptId(frame, prompt.promptId)) : bytes
    events.publish({ kind: 'frame', prompt: prompt.ref, bytes: own, isResult: isResultFrame(frame) })
  }

  /** The worker's history answer as the entry that is kept; undefined when it cannot be read. */
  async mapAnswer(given: string, body: PromptBody): Promise<MappedEntry | undefined> {
    const { prompt, worker, log } = this.#options
    const { record } = prompt
    const answer = withClientNames(given, record.traits.inputs)
    try {
      const entry = member(parseJson(answer), record.upstreamId)
      this.#readCachedNodes(entry)
      const outputs = member(entry, 'outputs')
      if (outputs?.kind === 'object') {
        for (const { key: node, value } of outputs.members) {
          for (const { file } of fileRecordsIn(value)) await this.#tokenFor(file, node)
        }
      }
      return mapHistoryEntry({
        answer,
        prompt: record,
        graph: shownParts(body.text, record.clientId, record.createdAt).graph,
        workerId: worker.id,
        tokenOf: (file) => this.#tokens.get(fileKey(file)) ?? worker.config.token,
      })
    } catch (error) {
      log.warn({ err: error }, 'the history of a prompt could not be read')
      return undefined
    }
  }

  /** What the client has not heard yet, the terminal message last. */
  finalMessages(entry: MappedEntry): string[] {
    const frames: string[] = []
    const { promptId, record } = this.#options.prompt
    if (!this.#wasStartTold) frames.push(frameOf('execution_start', startData(promptId, Date.now())))
    for (const { nodeId, data } of entry.executed) {
      if (!this.#toldOutputs.has(nodeId)) frames.push(frameOf('executed', data))
    }
    if (this.#terminalText !== undefined) frames.push(renameId(this.#terminalText, record))
    else if (entry.terminal) frames.push(frameOf(entry.terminal.type, entry.terminal.data))
    else frames.push(frameOf('execution_success', startData(promptId, Date.now())))
    return frames
  }

  #noteProgress({ type, data }: WorkerMessage): void {
    const { prompt } = this.#options
    const { progress } = prompt
    if (type === 'execution_start') prompt.resetProgress()
    if (type === 'execution_cached' && Array.isArray(data.nodes)) {
      for (const node of data.nodes) if (typeof node === 'string') this.#cachedNodes.add(node)
      progress.finishedNodes = this.#cachedNodes.size
    }
    if (type === 'executing' && typeof data.node === 'string') {
      if (progress.node !== undefined && progress.node !== data.node) progress.finishedNodes++
      Object.assign(progress, { node: data.node, value: 0, max: 0 })
    }
    if (type === 'progress' && typeof data.value === 'number' && typeof data.max === 'number') {
      Object.assign(progress, { value: data.value, max: data.max })
    }
  }

  /** The frame in the clients' form; undefined when it cannot be read. */
  async #map(message: WorkerMessage, source: string): Promise<string | undefined> {
    const { prompt, log } = this.#options
    let text = renameId(withClientNames(source, prompt.record.traits.inputs), prompt.record)
    if (message.type === 'executing' && promptIdOf(message) === undefined) {
      // After a reconnect a worker names the node but not the prompt.
      const node = typeof message.data.node === 'string' ? quotePython(message.data.node) : 'null'
      const id = quotePython(prompt.promptId)
      text = frameOf('executing', `{"node": ${node}, "display_node": ${node}, "prompt_id": ${id}}`)
    }
    if (!text.includes('"filename"')) {
      if (message.type === 'executed' && typeof message.data.node === 'string') this.#toldOutputs.add(message.data.node)
      return text
    }
    try {
      const data = member(parseJson(text), 'data')
      const node = stringValue(member(data, 'node')) ?? ''
      const splicer = new Splicer(text)
      for (const record of fileRecordsIn(data)) {
        renameRecord(splicer, record, await this.#tokenFor(record.file, node), { url: false })
      }
      if (message.type === 'executed') this.#toldOutputs.add(node)
      return splicer.apply()
    } catch (error) {
      log.warn({ err: error, type: message.type }, 'a message could not be read')
      return undefined
    }
  }

  async #tokenFor(file: WorkerFile, nodeId: string): Promise<string> {
    const key = fileKey(file)
    const known = this.#tokens.get(key)
    if (known !== undefined) return known
    const { disks, worker, prompt, signal } = this.#options
    const by = { promptId: prompt.promptId, isCached: this.#cachedNodes.has(nodeId) }
    const token = await retryUntil(signal, () => disks.tokenFor(worker, file, by))
    this.#tokens.set(key, token)
    return token
  }

  /** Messages that were missed tell it too. */
  #readCachedNodes(entry: JsonNode | undefined): void {
    const messages = member(member(entry, 'status'), 'messages')
    if (messages?.kind !== 'array') return
    for (const item of messages.items) {
      if (item.kind !== 'array' || stringValue(item.items[0]) !== 'execution_cached') continue
      const nodes = member(item.items[1], 'nodes')
      if (nodes?.kind !== 'array') continue
      for (const node of nodes.items) {
        const id = stringValue(node)
        if (id !== undefined) this.#cachedNodes.add(id)
      }
    }
  }
}

const fileKey = ({ type, subfolder, filename }: WorkerFile): string => `${type}/${subfolder}/${filename}`
