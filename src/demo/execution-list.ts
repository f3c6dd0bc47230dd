/** A cycle among the nodes that are left. */
export class DependencyCycleError extends Error {
  readonly nodeId: string
  constructor(nodeId: string) {
    super('Dependency cycle detected')
    this.nodeId = nodeId
  }
}

/** What the order depends on. */
export interface ExecutionFacts {
  /** Nodes that this one waits for; lazy inputs are asked for later, by `needs`. */
  eagerLinks(nodeId: string): readonly string[]
  /** Its result is known, so nothing has to wait for it. */
  isCached(nodeId: string): boolean
  isOutput(nodeId: string): boolean
}

/** The nodes of one run that are still to do, and which comes next. Outputs come as early as they can, as in ComfyUI. */
export class ExecutionList {
  readonly #facts: ExecutionFacts
  readonly #waitsFor = new Map<string, Set<string>>()
  readonly #blocks = new Map<string, Set<string>>()

  constructor(facts: ExecutionFacts) {
    this.#facts = facts
  }

  get isEmpty(): boolean {
    return this.#waitsFor.size === 0
  }

  /** Adds a node with everything it waits for. */
  add(nodeId: string): void {
    const toVisit = [nodeId]
    const links: [string, string][] = []
    for (let next = toVisit.pop(); next !== undefined; next = toVisit.pop()) {
      if (this.#waitsFor.has(next)) continue
      this.#waitsFor.set(next, new Set())
      this.#blocks.set(next, new Set())
      for (const from of this.#facts.eagerLinks(next)) {
        if (this.#facts.isCached(from)) continue
        toVisit.push(from)
        links.push([from, next])
      }
    }
    for (const [from, to] of links) this.needs(to, from)
  }

  /** Makes a node wait for another one that it asked for while it ran. */
  needs(nodeId: string, from: string): void {
    if (this.#facts.isCached(from)) return
    this.add(from)
    this.#waitsFor.get(nodeId)?.add(from)
    this.#blocks.get(from)?.add(nodeId)
  }

  /** The node to run now; it stays in the list until `complete`. Throws DependencyCycleError. */
  next(): string {
    let ready: string | undefined
    let beforeOutput: string | undefined
    let twoBefore: string | undefined
    let blamed = ''
    for (const [nodeId, waitsFor] of this.#waitsFor) {
      blamed = nodeId
      if (waitsFor.size > 0) continue
      if (this.#facts.isOutput(nodeId)) return nodeId
      ready ??= nodeId
      if (beforeOutput === undefined && this.#leadsToOutput(nodeId)) beforeOutput = nodeId
      if (twoBefore === undefined && beforeOutput === undefined) {
        for (const next of this.#blocks.get(nodeId) ?? []) if (this.#leadsToOutput(next)) twoBefore = nodeId
      }
    }
    const chosen = beforeOutput ?? twoBefore ?? ready
    if (chosen === undefined) throw new DependencyCycleError(blamed)
    return chosen
  }

  complete(nodeId: string): void {
    for (const next of this.#blocks.get(nodeId) ?? []) this.#waitsFor.get(next)?.delete(nodeId)
    this.#waitsFor.delete(nodeId)
    this.#blocks.delete(nodeId)
  }

  #leadsToOutput(nodeId: string): boolean {
    for (const next of this.#blocks.get(nodeId) ?? []) if (this.#facts.isOutput(next)) return true
    return false
  }
}
