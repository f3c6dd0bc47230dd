import { dumpPyJson, type PyNumber, pyFloat, pyInt } from './py-json.ts'

interface NodeProgress {
  value: PyNumber
  max: PyNumber
  state: 'running' | 'finished'
}

/** The progress of all nodes that a run has touched, as the `progress_state` message tells it. */
export class ProgressState {
  readonly #promptId: string
  readonly #nodes = new Map<string, NodeProgress>()
  /** Each node's text, so that a message re-writes only the node that changed. */
  readonly #texts = new Map<string, string>()

  constructor(promptId: string) {
    this.#promptId = promptId
  }

  /** A node that runs a second time, after its lazy inputs, keeps what it had. */
  start(nodeId: string): void {
    if (!this.#nodes.has(nodeId)) this.#set(nodeId, { value: pyFloat(0), max: pyFloat(1), state: 'running' })
  }

  advance(nodeId: string, value: PyNumber, max: PyNumber): void {
    this.#set(nodeId, { value, max, state: 'running' })
  }

  finish(nodeId: string): void {
    // A cached node was never started, and then ComfyUI has an integer here.
    const max = this.#nodes.get(nodeId)?.max ?? pyInt(1)
    this.#set(nodeId, { value: max, max, state: 'finished' })
  }

  /** The whole message. */
  message(): string {
    const nodes = [...this.#texts.values()].join(', ')
    return `{"type": "progress_state", "data": {"prompt_id": ${dumpPyJson(this.#promptId)}, "nodes": {${nodes}}}}`
  }

  #set(nodeId: string, progress: NodeProgress): void {
    this.#nodes.set(nodeId, progress)
    const text = dumpPyJson({
      ...progress,
      node_id: nodeId,
      prompt_id: this.#promptId,
      display_node_id: nodeId,
      parent_node_id: null,
      real_node_id: nodeId,
    })
    this.#texts.set(nodeId, `${dumpPyJson(nodeId)}: ${text}`)
  }
}
