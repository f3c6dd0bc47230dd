import { StoreUnavailableError } from '../errors.ts'

const FIRST_PAUSE_MS = 100
const LAST_PAUSE_MS = 2_000

/**
 * Tries a store's verb again until it works: what ran must be written, however long the store is away. Throws other
 * errors at once, and the last one when the signal aborts.
 */
export async function retryUntil<T>(signal: AbortSignal, verb: () => Promise<T>): Promise<T> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS)) {
    try {
      return await verb()
    } catch (error) {
      if (!(error instanceof StoreUnavailableError) || signal.aborted) throw error
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  }
}
