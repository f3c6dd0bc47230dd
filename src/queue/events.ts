import type { OutputFile, PromptId } from '../store/store.ts'

/** Whom a prompt belongs to, as far as delivery needs it. */
export interface PromptRef {
  promptId: PromptId
  owner: string
  caller: string
  /** Undefined: nobody is told by socket. */
  clientId: string | undefined
}

/**
 * What happens to prompts, in the order it happened for each of them: the one stream that every encoder (ComfyUI's
 * socket, the page, our own API) reads. Texts are whole ComfyUI frames, `{"type": …, "data": …}`, with ids and file
 * names already in the clients' form.
 */
export type PromptEvent =
  /** It is in the store: the first event of every prompt. Its POST may not be answered yet, or may still be refused. */
  | { kind: 'admitted'; prompt: PromptRef }
  /** A worker's message about it that does not end it. `type` is the frame's type. */
  | { kind: 'message'; prompt: PromptRef; type: string; text: string }
  /** A binary frame in the worker's form (1, 3 or 4), prompt id mapped. A result is never dropped, a preview may be. */
  | { kind: 'frame'; prompt: PromptRef; bytes: Uint8Array; isResult: boolean }
  /** Its attempt is dead and it waits again; `execution_start` comes a second time. */
  | { kind: 'requeued'; prompt: PromptRef }
  /** It ended and its history entry is stored. `messages` are the frames still due, the terminal one last; `files` what it has made. */
  | { kind: 'finished'; prompt: PromptRef; messages: readonly string[]; files?: readonly OutputFile[] }
  /** It is gone without trace: refused by the verdict, deleted while it waited, or cancelled before it ran. */
  | { kind: 'removed'; prompt: PromptRef }
  /** A message of a worker that names no prompt (a custom node's broadcast), for the client of the one that runs there. */
  | { kind: 'workerMessage'; prompt: PromptRef; type: string; text: string }

export type PromptListener = (event: PromptEvent) => void

export interface PromptEvents {
  publish(event: PromptEvent): void
  /** Answers the function that ends the subscription. A listener must not throw. */
  subscribe(listener: PromptListener): () => void
}

export function createPromptEvents(): PromptEvents {
  const listeners = new Set<PromptListener>()
  return {
    publish(event) {
      for (const listener of listeners) listener(event)
    },
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}
