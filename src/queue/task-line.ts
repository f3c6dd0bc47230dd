/** Tasks one after the other, in the order they were added, without a wait where none is needed. */
export class TaskLine {
  readonly #tasks: (() => void | Promise<void>)[] = []
  readonly #report: (error: unknown) => void
  #isWorking = false

  /** `report` hears of every task that fails; the next one follows all the same. */
  constructor(report: (error: unknown) => void) {
    this.#report = report
  }

  /** A task is waited for, and others behind it. */
  get isWorking(): boolean {
    return this.#isWorking
  }

  /** Runs the task at once when none is under way. */
  add(task: () => void | Promise<void>): void {
    this.#tasks.push(task)
    if (!this.#isWorking) void this.#work()
  }

  async #work(): Promise<void> {
    this.#isWorking = true
    for (let task = this.#tasks.shift(); task; task = this.#tasks.shift()) {
      try {
        const working = task()
        if (working) await working
      } catch (error) {
        this.#report(error)
      }
    }
    this.#isWorking = false
  }
}
