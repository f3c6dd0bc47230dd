/** What the order of waiting prompts depends on. */
export interface Waiting {
  readonly promptId: string
  readonly caller: string
  /** Higher first, across callers. */
  readonly priority: number
  /** Lower first, within one caller. */
  readonly number: number
  /** Order of arrival. */
  readonly sequence: number
}

interface Slot<T> {
  sequence: number
  holder: T
}

/**
 * The order of waiting prompts. Each prompt brings one place in line, given by priority and arrival; a caller's own
 * prompts sit in that caller's places in order of their numbers. So `front` passes one's own prompts and nobody
 * else's, and `priority` passes everybody's of less.
 */
export class WaitingLine<T extends Waiting> {
  /** By priority, highest first. */
  readonly #classes: { priority: number; slots: Slot<T>[] }[] = []
  readonly #byId = new Map<string, T>()

  get size(): number {
    return this.#byId.size
  }

  has(promptId: string): boolean {
    return this.#byId.has(promptId)
  }

  /** Puts a prompt in line, or back in line at its old place. O(n) when its caller has others of the same priority. */
  add(entry: T): void {
    if (this.#byId.has(entry.promptId)) return
    this.#byId.set(entry.promptId, entry)
    const { slots } = this.#classFor(entry.priority)
    const at = lowerBound(slots, entry.sequence)
    slots.splice(at, 0, { sequence: entry.sequence, holder: entry })
    // The common case needs no sorting: behind everybody, and after the last of its own (the caller's greatest number).
    const isLast = at === slots.length - 1
    if (!isLast || this.#lastOwnNumber(slots, entry.caller, at) > entry.number) this.#sortCaller(slots, entry.caller)
  }

  /** Takes a prompt out; the others keep their places. False when it was not in line. */
  remove(promptId: string): boolean {
    const entry = this.#byId.get(promptId)
    if (!entry) return false
    this.#byId.delete(promptId)
    const index = this.#classes.findIndex((candidate) => candidate.priority === entry.priority)
    const group = this.#classes[index]
    if (!group) return true
    const at = group.slots.findIndex((slot) => slot.holder === entry)
    if (at >= 0) group.slots.splice(at, 1)
    if (group.slots.length === 0) this.#classes.splice(index, 1)
    return true
  }

  /** In the order they will be offered to workers. Do not change the line while iterating. */
  *[Symbol.iterator](): Generator<T> {
    for (const { slots } of this.#classes) for (const slot of slots) yield slot.holder
  }

  #lastOwnNumber(slots: readonly Slot<T>[], caller: string, before: number): number {
    for (let index = before - 1; index >= 0; index--) {
      const holder = slots[index]?.holder
      if (holder?.caller === caller) return holder.number
    }
    return Number.NEGATIVE_INFINITY
  }

  #sortCaller(slots: Slot<T>[], caller: string): void {
    const own = slots.filter((slot) => slot.holder.caller === caller)
    if (own.length < 2) return
    const ordered = own.map((slot) => slot.holder).sort((a, b) => a.number - b.number || a.sequence - b.sequence)
    own.forEach((slot, index) => {
      const holder = ordered[index]
      if (holder) slot.holder = holder
    })
  }

  #classFor(priority: number): { priority: number; slots: Slot<T>[] } {
    const at = this.#classes.findIndex((candidate) => candidate.priority <= priority)
    const found = this.#classes[at]
    if (found?.priority === priority) return found
    const created = { priority, slots: [] }
    this.#classes.splice(at < 0 ? this.#classes.length : at, 0, created)
    return created
  }
}

function lowerBound(slots: readonly { sequence: number }[], sequence: number): number {
  let low = 0
  let high = slots.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((slots[middle]?.sequence ?? 0) < sequence) low = middle + 1
    else high = middle
  }
  return low
}
