import type { PromptTraits } from './traits.ts'

/** A worker as policies see it: plain, without sockets. */
export interface Candidate {
  readonly id: string
  readonly weight: number
  readonly slots: number
  /** Prompts it holds. */
  readonly load: number
  /** Prompts it was ever given; spreads equal choices. */
  readonly dispatched: number
}

/** Chooses among workers that are available and able; undefined leaves the prompt waiting. */
export type SelectionPolicy = <T extends Candidate>(candidates: readonly T[], prompt: PromptTraits) => T | undefined
