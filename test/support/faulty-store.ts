import { StoreUnavailableError } from '../../src/errors.ts'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import type { PromptStore, Store } from '../../src/store/store.ts'

type Verb = keyof PromptStore

/**
 * A memory store whose prompt verbs fail or wait when a test says so. Takes the place of `store/open.ts`:
 * `vi.mock('../../src/store/open.ts', () => import('../support/faulty-store.ts'))`.
 */
export const storeFaults = {
  /** These verbs fail as a store does that is away. */
  failing: new Set<Verb>(),
  /** These verbs are refused with the error, always. */
  refusing: new Map<Verb, Error>(),
  /** These verbs are done, and then fail as if the answer had been lost; so many times each. */
  answerLost: new Map<Verb, number>(),
  /** These verbs are done, and then wait for the promise. */
  slow: new Map<Verb, Promise<void>>(),
  /** How often each verb was called. */
  calls: new Map<Verb, number>(),
  clear(): void {
    this.failing.clear()
    this.answerLost.clear()
    this.refusing.clear()
    this.slow.clear()
    this.calls.clear()
  },
}

/** Keeps a verb from being answered until the function is called. */
export function holdVerb(verb: Verb): () => void {
  let release: () => void = () => undefined
  storeFaults.slow.set(
    verb,
    new Promise((resolve) => {
      release = () => {
        storeFaults.slow.delete(verb)
        resolve()
      }
    }),
  )
  return () => release()
}

export async function openStore(): Promise<Store> {
  const store = createMemoryStore()
  const prompts = new Proxy(store.prompts, {
    get(target, name) {
      const verb: unknown = Reflect.get(target, name)
      if (typeof verb !== 'function') return verb
      return async (...args: unknown[]) => {
        const which = name as Verb // Only the interface is called.
        storeFaults.calls.set(which, (storeFaults.calls.get(which) ?? 0) + 1)
        if (storeFaults.failing.has(which)) throw new StoreUnavailableError(new Error('down for a test'))
        const refusal = storeFaults.refusing.get(which)
        if (refusal && isResult(args)) throw refusal
        const answer: unknown = await Reflect.apply(verb, target, args)
        await storeFaults.slow.get(which)
        const lost = storeFaults.answerLost.get(which) ?? 0
        if (lost > 0) {
          storeFaults.answerLost.set(which, lost - 1)
          throw new StoreUnavailableError(new Error('the answer was lost in a test'))
        }
        return answer
      }
    },
  })
  return { ...store, prompts }
}

/** A `finish` with a result of a worker; the end that the gateway writes itself is small. */
function isResult(args: readonly unknown[]): boolean {
  const outcome = args[1]
  return typeof outcome === 'object' && outcome !== null && 'status' in outcome && outcome.status === 'succeeded'
}
