import { createHash } from 'node:crypto'
import type { FrameImageType } from '../comfyui/frames.ts'
import type { Catalogue } from './catalogue.ts'
import { inputSection } from './classes.ts'
import { DependencyCycleError, ExecutionList } from './execution-list.ts'
import { type FileStore, findAnnotated } from './files.ts'
import { classNameOf, inputsOf, linkOf } from './graph.ts'
import type { Ledger } from './ledger.ts'
import {
  NodeError,
  type NodeInput,
  type NodeInputs,
  type NodeResult,
  neededLazyInputs,
  outOfMemory,
  type Pace,
  runNode,
} from './nodes.ts'
import { ProgressState } from './progress-state.ts'
import { dumpPyJson, isPyObject, type PyDumpable, type PyNumber, type PyValue } from './py-json.ts'
import type { QueueItem } from './queue-heap.ts'
import type { Recipient, SocketHub } from './socket.ts'
import type { ImageCache } from './tooling-nodes.ts'

/** What every run of a worker shares. */
export interface ExecutionOptions {
  hub: SocketHub
  catalogue: Catalogue
  files: FileStore
  images: ImageCache
  ledger: Ledger
  pace: Pace
  sendPreviews: boolean
  vramBytes: number
  randomLetters: () => string
  /** A prompt with the marker POISON ran into it. */
  onPoison: (promptId: string) => void
}

const GIB = 1024 ** 3

/** The run was told to stop. */
export class InterruptedError extends Error {}

/** The worker died; the run ends without a word. */
export class StoppedError extends Error {}

/** Texts in inputs that make a node misbehave. `OOM24` fails on workers with less than 24 GiB. */
const MARKER = /\b(FAIL|POISON|TARPIT|OOM(\d*))\b/

/** What the engine lends to a run. */
export interface EngineLoan {
  cache: ReadonlyMap<string, NodeResult>
  check(): void
  sleep(ms: number): Promise<void>
  setActiveNode(nodeId: string): void
}

type Outcome = 'success' | 'error' | 'interrupted'

/** One run of one prompt: its nodes in order, its messages, its end. */
export class Execution {
  readonly messages: [string, { [key: string]: PyDumpable }][] = []
  /** Results by input signature: those of the prompt before that this one uses, and its own. */
  readonly cache = new Map<string, NodeResult>()
  readonly #options: ExecutionOptions
  readonly #item: QueueItem
  readonly #client: Recipient
  readonly #loan: EngineLoan
  readonly #signatures = new Map<string, string>()
  readonly #executed = new Set<string>()
  readonly #state: ProgressState

  constructor(options: ExecutionOptions, item: QueueItem, client: Recipient, loan: EngineLoan) {
    this.#options = options
    this.#item = item
    this.#client = client
    this.#loan = loan
    this.#state = new ProgressState(item.promptId)
  }

  async run(): Promise<Outcome> {
    const { promptId, outputs } = this.#item
    this.#tell('execution_start', { prompt_id: promptId })
    this.#tell('execution_cached', { nodes: this.#takeFromCache(), prompt_id: promptId })
    const wanted = new Set(outputs)
    const list = new ExecutionList({
      eagerLinks: (nodeId) => this.#links(nodeId, { isLazy: false }),
      isCached: (nodeId) => this.#result(nodeId) !== undefined,
      isOutput: (nodeId) => wanted.has(nodeId),
    })
    let nodeId = ''
    try {
      for (const output of outputs) list.add(output)
      while (!list.isEmpty) {
        nodeId = list.next()
        this.#loan.check()
        const needs = await this.#node(nodeId)
        if (needs.length === 0) list.complete(nodeId)
        else for (const from of needs) list.needs(nodeId, from)
      }
      this.#tell('execution_success', { prompt_id: promptId })
      return 'success'
    } catch (error) {
      return this.#failed(error, error instanceof DependencyCycleError ? error.nodeId : nodeId)
    }
  }

  /** Takes over what the prompt before left; gives the nodes that have their result already. */
  #takeFromCache(): string[] {
    const cachedNodes: string[] = []
    for (const nodeId of this.#item.prompt.keys()) {
      const known = this.#loan.cache.get(this.#signature(nodeId))
      if (!known) continue
      this.cache.set(this.#signature(nodeId), known)
      cachedNodes.push(nodeId)
    }
    return cachedNodes
  }

  /** What the nodes of this prompt show, cached or not. */
  outputs(): Map<string, PyDumpable> {
    const outputs = new Map<string, PyDumpable>()
    for (const nodeId of this.#item.prompt.keys()) {
      const ui = this.#result(nodeId)?.ui
      if (ui !== undefined) outputs.set(nodeId, ui)
    }
    return outputs
  }

  /** Runs a node; gives the nodes it must wait for first. */
  async #node(nodeId: string): Promise<string[]> {
    const { hub } = this.#options
    const known = this.#result(nodeId)
    if (known) {
      this.#toClient('executed', this.#executedData(nodeId, known.ui ?? null))
      this.#state.finish(nodeId)
      this.#sendState()
      return []
    }
    this.#state.start(nodeId)
    this.#sendState()
    if (this.#client !== undefined) {
      this.#loan.setActiveNode(nodeId)
      hub.send('executing', { node: nodeId, display_node: nodeId, prompt_id: this.#item.promptId }, this.#client)
    }
    const className = classNameOf(this.#item.prompt.get(nodeId))
    const inputs = this.#inputs(nodeId)
    const waitFor = neededLazyInputs(className, inputs).flatMap((name) => this.#linkNamed(nodeId, name))
    if (waitFor.length > 0) return waitFor
    await this.#obeyMarkers(inputs)
    const result = await runNode(
      {
        promptId: this.#item.promptId,
        prompt: this.#item.prompt,
        extraData: this.#item.extraData,
        className,
        extra: this.#options.catalogue.extraClass(className),
        signature: this.#signature(nodeId),
        files: this.#options.files,
        images: this.#options.images,
        ledger: this.#options.ledger,
        pace: this.#options.pace,
        sendPreviews: this.#options.sendPreviews,
        randomLetters: this.#options.randomLetters,
        sleep: (ms) => this.#loan.sleep(ms),
        progress: (value, max, image) => this.#progress(nodeId, value, max, image),
      },
      inputs,
    )
    this.#loan.check()
    if (result.ui !== undefined) this.#toClient('executed', this.#executedData(nodeId, result.ui))
    this.cache.set(this.#signature(nodeId), result)
    this.#executed.add(nodeId)
    this.#state.finish(nodeId)
    this.#sendState()
    return []
  }

  #executedData(nodeId: string, output: PyDumpable): PyDumpable {
    return { node: nodeId, display_node: nodeId, output, prompt_id: this.#item.promptId }
  }

  async #obeyMarkers(inputs: NodeInputs): Promise<void> {
    for (const input of inputs.values()) {
      const found = input.kind === 'literal' && typeof input.value === 'string' ? MARKER.exec(input.value) : null
      if (!found) continue
      switch (found[1]) {
        case 'FAIL':
          throw new NodeError('RuntimeError', 'This node was told to fail')
        case 'POISON':
          this.#options.onPoison(this.#item.promptId)
          await this.#loan.sleep(0)
          throw new NodeError('RuntimeError', 'The poison had no effect')
        case 'TARPIT':
          for (;;) await this.#loan.sleep(60_000)
        default:
          if (!found[2] || this.#options.vramBytes < Number(found[2]) * GIB) throw outOfMemory()
      }
    }
  }

  #progress(nodeId: string, value: PyNumber, max: PyNumber, image?: { type: FrameImageType; bytes: Buffer }): void {
    this.#loan.check()
    const { hub } = this.#options
    const { promptId } = this.#item
    this.#state.advance(nodeId, value, max)
    this.#sendState()
    const takesMetadata = hub.takesMetadata(this.#client)
    if (image && takesMetadata) hub.sendPicture(image.type, image.bytes, { promptId, nodeId }, this.#client)
    hub.send('progress', { value, max, prompt_id: promptId, node: nodeId }, this.#client)
    if (image && !takesMetadata) hub.sendPicture(image.type, image.bytes, { promptId, nodeId }, this.#client)
  }

  #failed(error: unknown, nodeId: string): Outcome {
    const { promptId, prompt } = this.#item
    const nodeType = classNameOf(prompt.get(nodeId))
    const executed = [...this.#executed]
    if (error instanceof StoppedError) throw error
    if (error instanceof InterruptedError) {
      const data = { prompt_id: promptId, node_id: nodeId, node_type: nodeType, executed }
      this.#tell('execution_interrupted', data, { isForAll: true })
      return 'interrupted'
    }
    const isCycle = error instanceof DependencyCycleError
    const type = error instanceof NodeError ? error.type : isCycle ? 'graph.DependencyCycleError' : 'Exception'
    const tip = type === 'torch.OutOfMemoryError' ? 'The GPU has too little memory for this.' : ''
    this.#tell('execution_error', {
      prompt_id: promptId,
      node_id: nodeId,
      node_type: nodeType,
      executed,
      exception_message: `${error instanceof Error ? error.message : String(error)}\n${tip}`,
      exception_type: type,
      traceback: isCycle ? [] : ['  File "/simulated/nodes.py", line 1, in run\n'],
      current_inputs: isCycle ? [] : this.#shownInputs(nodeId),
      current_outputs: [...prompt.keys()],
    })
    return 'error'
  }

  #shownInputs(nodeId: string): PyDumpable {
    const shown = new Map<string, PyDumpable>()
    for (const [name, input] of this.#inputs(nodeId)) {
      shown.set(name, input.kind === 'literal' ? [input.value] : [`<${input.value.kind}>`])
    }
    return shown
  }

  #sendState(): void {
    const { hub } = this.#options
    if (!hub.isMuted && hub.hasRecipient(this.#client)) hub.sendText(this.#state.message(), this.#client)
  }

  #toClient(type: string, data: PyDumpable): void {
    if (this.#client !== undefined) this.#options.hub.send(type, data, this.#client)
  }

  #tell(type: string, data: { [key: string]: PyDumpable }, { isForAll = false } = {}): void {
    const full = { ...data, timestamp: Date.now() }
    this.messages.push([type, full])
    if (this.#client !== undefined || isForAll) this.#options.hub.send(type, full, this.#client)
  }

  #result(nodeId: string): NodeResult | undefined {
    return this.cache.get(this.#signature(nodeId))
  }

  #inputs(nodeId: string): NodeInputs {
    const inputs = new Map<string, NodeInput>()
    for (const [name, value] of inputsOf(this.#item.prompt.get(nodeId))) {
      const link = linkOf(value)
      const linked = link && this.#result(link.nodeId)?.values[link.slot]
      if (linked) inputs.set(name, { kind: 'linked', value: linked })
      else if (!link) inputs.set(name, { kind: 'literal', value })
    }
    return inputs
  }

  #linkNamed(nodeId: string, name: string): string[] {
    const link = linkOf(inputsOf(this.#item.prompt.get(nodeId)).get(name))
    return link ? [link.nodeId] : []
  }

  #links(nodeId: string, { isLazy }: { isLazy: boolean }): string[] {
    const node = this.#item.prompt.get(nodeId)
    const nodeClass = this.#options.catalogue.classOf(classNameOf(node))
    const links: string[] = []
    for (const [name, value] of inputsOf(node)) {
      const link = linkOf(value)
      if (!link || !this.#item.prompt.has(link.nodeId)) continue
      const declared = nodeClass && inputSection(nodeClass, 'required').get(name)
      const options = Array.isArray(declared) ? declared[1] : undefined
      if ((isPyObject(options) && options.get('lazy') === true) === isLazy) links.push(link.nodeId)
    }
    return links
  }

  #signature(nodeId: string): string {
    const known = this.#signatures.get(nodeId)
    if (known !== undefined) return known
    // Stands while its ancestors are visited, so that a cycle ends here.
    this.#signatures.set(nodeId, `cycle ${nodeId}`)
    const node = this.#item.prompt.get(nodeId)
    const className = classNameOf(node)
    const nodeClass = this.#options.catalogue.classOf(className)
    const parts = [className]
    if (nodeClass && inputSection(nodeClass, 'hidden').has('unique_id')) parts.push(nodeId)
    for (const [name, value] of [...inputsOf(node)].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      const link = linkOf(value)
      parts.push(name, link ? `${this.#signature(link.nodeId)}:${link.slot}` : dumpPyJson(value))
      if (className.startsWith('LoadImage') && name === 'image') parts.push(this.#contentHash(value))
    }
    const signature = createHash('sha1').update(parts.join('\n')).digest('hex')
    this.#signatures.set(nodeId, signature)
    return signature
  }

  #contentHash(value: PyValue): string {
    const file = typeof value === 'string' ? findAnnotated(this.#options.files, value, 'input') : undefined
    return file?.contentHash ?? ''
  }
}
