import { createHash } from 'node:crypto'

/**
 * The same candidate for the same key, for as long as it is there: each has a weight for each key, and the highest wins.
 * When one goes, only its own keys move; undefined when there is none.
 */
export function rendezvous<T extends { readonly id: string }>(candidates: readonly T[], key: string): T | undefined {
  let best: { candidate: T; weight: string } | undefined
  for (const candidate of candidates) {
    const weight = createHash('sha256')
      .update(JSON.stringify([candidate.id, key]))
      .digest('hex')
    if (best === undefined || weight > best.weight) best = { candidate, weight }
  }
  return best?.candidate
}
