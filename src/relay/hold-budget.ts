/** Something that holds messages and can do with less memory, in three steps of growing harm. */
export interface Relievable {
  dropReplaceable(): void
  /** To disk; loses nothing while the disk takes it. */
  spill(): void
  dropUnimportant(): void
}

/** The memory that held messages of all clients may take together. */
export class HoldBudget {
  readonly limitBytes: number
  readonly #holders = new Set<Relievable>()
  #usedBytes = 0
  #nextLookBytes = 0

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  enter(holder: Relievable): void {
    this.#holders.add(holder)
  }

  leave(holder: Relievable): void {
    this.#holders.delete(holder)
  }

  /** Negative to give back. */
  take(bytes: number): void {
    this.#usedBytes += bytes
    if (this.#usedBytes <= this.limitBytes) this.#nextLookBytes = 0
  }

  /**
   * Brings the memory back below the bound: progress and previews go first, then large messages move to disk, then what
   * is not important goes. Small important messages stay, so the bound can be passed by these alone.
   */
  settle(): void {
    if (this.#usedBytes <= Math.max(this.limitBytes, this.#nextLookBytes)) return
    const target = this.limitBytes * 0.75
    for (const step of ['dropReplaceable', 'spill', 'dropUnimportant'] as const) {
      for (const holder of this.#holders) {
        if (this.#usedBytes <= target) break
        holder[step]()
      }
    }
    // What is left cannot go. Without a distance to the next look, each further message would walk through all of it.
    this.#nextLookBytes = this.#usedBytes <= this.limitBytes ? 0 : this.#usedBytes + this.limitBytes / 8
  }
}
