/** A literal that chooses from a list of a node class (a checkpoint, a sampler, an input file). */
export interface ComboLiteral {
  classType: string
  input: string
  value: string
}

/** A literal that names a file, bound to the content that the name had when the prompt came. */
export interface InputBinding {
  /** As it stands in the graph. */
  literal: string
  /** SHA-256 of the content, hex: a blob of the gateway. */
  hash: string
  /** Where nodes look for it on a worker: its name without folders, its folder, its area. */
  name: string
  subfolder: string
  /** `held`: no file, but a picture that a client has put under an id, which is the name. */
  type: 'input' | 'temp' | 'output' | 'held'
}

/** What placement needs to know of a prompt. Small and plain: it lives in memory for every waiting prompt. */
export interface PromptTraits {
  /** Every class the graph uses, without repeats. */
  classTypes: readonly string[]
  /** String literals that may be entries of a combo; which of them are is decided per worker at placement. */
  combos: readonly ComboLiteral[]
  /** Node ids of the outputs that will run, as ComfyUI lists them in the queue's fifth element. */
  outputs: readonly string[]
  /** Nodes of the graph, for progress. */
  nodeCount: number
  /** Numbers of the graph that say how large its pictures are (`width`, `height`, `batch_size`, …), in its order. */
  sizes: readonly number[]
  /** True when a class is a paid partner node (`api_node` in object_info). */
  hasPaidNodes: boolean
  /** Workers that hold a file which a literal names, or the one it was bound to; empty when any worker will do. */
  pinnedWorkerIds: readonly string[]
  /** Files that any worker gets before the prompt. */
  inputs: readonly InputBinding[]
}
