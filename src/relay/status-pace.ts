/** At most two in half a second: the pair that ComfyUI sends for each prompt passes at once, and never five in a second. */
const BURST = 2
const WINDOW_MS = 500

export interface StatusPaceOptions {
  /** Sends the count as it is at that moment. */
  send: () => void
  /** Milliseconds on a clock that never goes back. */
  now: () => number
}

/** Merges `status` messages: the first go out at once, the last of many a little later. */
export class StatusPace {
  readonly #options: StatusPaceOptions
  #sentAt: number[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(options: StatusPaceOptions) {
    this.#options = options
  }

  /** The count, or what it stands for, has changed. */
  touch(): void {
    if (this.#timer !== undefined) return
    const now = this.#options.now()
    this.#sentAt = this.#sentAt.filter((at) => now - at < WINDOW_MS)
    const [oldest] = this.#sentAt
    if (oldest === undefined || this.#sentAt.length < BURST) {
      this.#send(now)
      return
    }
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        this.#sentAt.shift()
        this.#send(this.#options.now())
      },
      oldest + WINDOW_MS - now,
    )
  }

  /** The count has just been told in another way, or nobody listens any more. */
  settle(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #send(now: number): void {
    this.#sentAt.push(now)
    this.#options.send()
  }
}
