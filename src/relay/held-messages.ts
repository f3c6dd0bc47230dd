import type { HoldBudget, Relievable } from './hold-budget.ts'
import type { MessageKind, RelayMessage } from './message.ts'
import type { SpoolFile, SpoolSpan } from './spool.ts'

/** One message that waits: in memory, or in the spool. */
export interface HeldMessage {
  readonly kind: MessageKind
  readonly isBinary: boolean
  readonly bytes: number
  content: string | Uint8Array | undefined
  span: SpoolSpan | undefined
}

type ReplaceableKind = 'progress' | 'progress_state' | 'preview'

/** What a message costs beside its content: the entry, its place in the set. */
const ENTRY_BYTES = 200
/** What a prompt with held messages costs beside them, with its share of the client that may be kept for it alone. */
const HOLDER_BYTES = 4_000
/** Below this the entry in memory is as large as what the disk would take over. */
const SPILL_FROM_BYTES = 1024

const isReplaceable = (kind: MessageKind): kind is ReplaceableKind =>
  kind === 'progress' || kind === 'progress_state' || kind === 'preview'

/** The messages of one prompt that were not handed to a socket yet, in their order. */
export class HeldMessages implements Relievable {
  readonly #budget: HoldBudget
  readonly #file: SpoolFile
  readonly #messages = new Set<HeldMessage>()
  readonly #latest = new Map<ReplaceableKind, HeldMessage>()

  constructor(budget: HoldBudget, file: SpoolFile) {
    this.#budget = budget
    this.#file = file
  }

  get size(): number {
    return this.#messages.size
  }

  /** Appends; a message that is replaced by this one goes. */
  add({ kind, content }: RelayMessage): void {
    const isBinary = typeof content !== 'string'
    const bytes = isBinary ? content.byteLength : content.length
    const message: HeldMessage = { kind, isBinary, bytes, content, span: undefined }
    if (isReplaceable(kind)) {
      const replaced = this.#latest.get(kind)
      if (replaced) this.remove(replaced)
      this.#latest.set(kind, message)
    }
    if (this.#messages.size === 0) {
      this.#budget.enter(this)
      this.#budget.take(HOLDER_BYTES)
    }
    this.#messages.add(message)
    this.#budget.take(bytes + ENTRY_BYTES)
  }

  first(): HeldMessage | undefined {
    return this.#messages.values().next().value
  }

  /** Its content, from the spool when it waits there. Undefined when the spool has lost it. */
  read(message: HeldMessage): string | Uint8Array | undefined {
    if (message.span === undefined) return message.content
    const bytes = this.#file.read(message.span)
    return message.isBinary ? bytes : bytes?.toString('utf8')
  }

  remove(message: HeldMessage): void {
    if (!this.#messages.delete(message)) return
    if (isReplaceable(message.kind)) {
      if (this.#latest.get(message.kind) === message) this.#latest.delete(message.kind)
    }
    this.#budget.take(-(ENTRY_BYTES + (message.span === undefined ? message.bytes : 0)))
    if (message.span !== undefined) this.#file.release()
    if (this.#messages.size === 0) {
      this.#budget.leave(this)
      this.#budget.take(-HOLDER_BYTES)
    }
  }

  clear(): void {
    for (const message of this.#messages) this.remove(message)
  }

  dropReplaceable(): void {
    for (const message of this.#latest.values()) this.remove(message)
  }

  spill(): void {
    for (const message of this.#messages) {
      const { content } = message
      if (content === undefined || message.bytes < SPILL_FROM_BYTES || isReplaceable(message.kind)) continue
      message.span = this.#file.write(typeof content === 'string' ? Buffer.from(content, 'utf8') : content)
      if (message.span !== undefined) {
        message.content = undefined
        this.#budget.take(-message.bytes)
        // A disk that takes nothing more must not become a process that takes everything.
      } else if (message.kind === 'result') this.remove(message)
    }
  }

  dropUnimportant(): void {
    for (const message of this.#messages) {
      if (message.kind === 'other' || message.kind === 'executing') this.remove(message)
    }
  }
}
