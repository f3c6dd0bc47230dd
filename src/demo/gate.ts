/** Holds everything that asks to pass while it is shut, as a stopped process does. */
export class Gate {
  #opened: Promise<void> | undefined
  #open: (() => void) | undefined

  get isShut(): boolean {
    return this.#opened !== undefined
  }

  shut(): void {
    this.#opened ??= new Promise((resolve) => {
      this.#open = resolve
    })
  }

  open(): void {
    const release = this.#open
    this.#opened = undefined
    this.#open = undefined
    release?.()
  }

  /** Resolves when the gate is open; it may be shut again before the caller goes on. */
  async pass(): Promise<void> {
    while (this.#opened) await this.#opened
  }
}
