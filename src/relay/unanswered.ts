import type { PromptRef } from '../queue/events.ts'
import type { PromptId } from '../store/store.ts'

interface Gate {
  /** Answers that have not left. */
  pending: number
  /** Prompts, by client, about which there is something to say when they have. */
  readonly waiting: Map<string, PromptRef>
}

/** Prompts whose `POST /prompt` is being answered. */
export class UnansweredPrompts {
  readonly #gates = new Map<PromptId, Gate>()

  has(promptId: PromptId): boolean {
    return this.#gates.has(promptId)
  }

  /** One more answer is due; a POST may be repeated while the first is still answered. */
  hold(promptId: PromptId): void {
    const gate = this.#gates.get(promptId)
    if (gate === undefined) this.#gates.set(promptId, { pending: 1, waiting: new Map() })
    else gate.pending++
  }

  /** True when an answer is due; the prompt is then among those that `answered` gives back. */
  awaits(prompt: PromptRef): boolean {
    const gate = this.#gates.get(prompt.promptId)
    gate?.waiting.set(JSON.stringify([prompt.owner, prompt.caller, prompt.clientId]), prompt)
    return gate !== undefined
  }

  /** One answer has left. Gives back what may be told now: nothing while others are due. */
  answered(promptId: PromptId): PromptRef[] {
    const gate = this.#gates.get(promptId)
    if (gate === undefined || --gate.pending > 0) return []
    this.#gates.delete(promptId)
    return [...gate.waiting.values()]
  }
}
