import { setImmediate } from 'node:timers/promises'

/** Milliseconds of work in one go. */
const SLICE_MS = 15

/** For long loops: call it each round, and it lets others run whenever a slice of time is used up. */
export function createBreather(sliceMs = SLICE_MS): () => Promise<void> | undefined {
  let since = performance.now()
  return () => {
    if (performance.now() - since < sliceMs) return undefined
    return setImmediate().then(() => {
      since = performance.now()
    })
  }
}
