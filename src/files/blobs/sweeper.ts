import type { BlobHash, BlobStore } from './blobs.ts'

/** What was put less than this ago may be in use by somebody who has not written it down yet; ms. */
const UNTOUCHED_MS = 3_600_000

/** Removes blobs that nobody uses: replaced uploads, files of prompts that have ended. */
export function createBlobSweeper(options: {
  blobs: BlobStore
  isUsed(hash: BlobHash): Promise<boolean>
  untouchedMs?: number
}): { sweep(signal: AbortSignal): Promise<{ removed: number; bytes: number }> } {
  const { blobs, isUsed, untouchedMs = UNTOUCHED_MS } = options
  /** Unused at the last pass. A prompt that is being taken in may still be bound to one, so they get one more pass. */
  let suspects = new Set<BlobHash>()
  return {
    async sweep(signal) {
      const unused = new Set<BlobHash>()
      let removed = 0
      let bytes = 0
      for await (const { hash, size, putAt } of blobs.list()) {
        if (signal.aborted) break
        if (Date.now() - putAt < untouchedMs || (await isUsed(hash))) continue
        if (!suspects.has(hash)) unused.add(hash)
        else if (await blobs.delete(hash, { untouchedMs })) {
          removed++
          bytes += size
        }
      }
      suspects = unused
      return { removed, bytes }
    },
  }
}
