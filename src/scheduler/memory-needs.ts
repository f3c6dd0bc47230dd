import type { PromptTraits } from './traits.ts'

const MAX_REMEMBERED = 1_000

/** What was too large for which device: learned from runs that were out of memory, the oldest forgotten first. */
export interface MemoryNeeds {
  /** A prompt like this did not fit into a device of that size. */
  note(traits: PromptTraits, vramBytes: number): void
  /** Size of the largest device that was too small for a prompt like this; 0 when none was. */
  tooSmallBytes(traits: PromptTraits): number
}

export function createMemoryNeeds(): MemoryNeeds {
  const remembered = new Map<string, number>()
  return {
    note(traits, vramBytes) {
      const key = likeness(traits)
      const known = remembered.get(key) ?? 0
      remembered.delete(key)
      remembered.set(key, Math.max(known, vramBytes))
      const oldest = remembered.size > MAX_REMEMBERED ? remembered.keys().next().value : undefined
      if (oldest !== undefined) remembered.delete(oldest)
    },
    tooSmallBytes: (traits) => remembered.get(likeness(traits)) ?? 0,
  }
}

/** Prompts alike in this need about the same memory: the same nodes and models, at the same size. */
const likeness = (traits: PromptTraits): string => JSON.stringify([traits.classTypes, traits.combos, traits.sizes])
