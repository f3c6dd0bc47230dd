import type { Candidate, SelectionPolicy } from './policy.ts'

/** The shortest queue per slot; among equals, the one that had least in proportion to its weight. */
export const leastLoaded: SelectionPolicy = (candidates) => candidates.toSorted(byLoad)[0]

function byLoad(a: Candidate, b: Candidate): number {
  return a.load / a.slots - b.load / b.slots || a.dispatched / a.weight - b.dispatched / b.weight || b.weight - a.weight
}
