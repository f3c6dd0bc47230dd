import { createMemoryNeeds } from '../scheduler/memory-needs.ts'
import { type Placement, placementOf } from '../scheduler/placement.ts'
import type { PromptTraits } from '../scheduler/traits.ts'
import type { WorkerRegistry } from '../workers/registry.ts'
import type { Worker } from '../workers/worker.ts'

/** Which workers of the fleet can run a prompt, with what was learned of devices that were too small. */
export class FleetPlacement {
  readonly #registry: Pick<WorkerRegistry, 'list'>
  readonly #memoryNeeds = createMemoryNeeds()

  constructor(registry: Pick<WorkerRegistry, 'list'>) {
    this.#registry = registry
  }

  /** Who can run it, without devices that were too small for its like while there are larger ones. */
  of(traits: PromptTraits): Placement<Worker> {
    const placement = placementOf(this.#registry.list(), traits)
    const tooSmallBytes = this.#memoryNeeds.tooSmallBytes(traits)
    if (tooSmallBytes === 0) return placement
    const large = placement.able.filter((worker) => (worker.vramBytes ?? 0) > tooSmallBytes)
    return large.length > 0 ? { able: large, reason: undefined } : placement
  }

  /** A prompt was out of memory there. True when a worker with more is up that can run it. */
  wasTooSmall(worker: Worker, traits: PromptTraits): boolean {
    const vramBytes = worker.vramBytes ?? 0
    this.#memoryNeeds.note(traits, vramBytes)
    const { able } = placementOf(this.#registry.list(), traits)
    return able.some((other) => other.isUp && (other.vramBytes ?? 0) > vramBytes)
  }
}
