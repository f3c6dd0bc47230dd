import type { PyNumber, PyObject } from './py-json.ts'

/** One prompt in the worker's queue. */
export interface QueueItem {
  number: PyNumber
  promptId: string
  prompt: PyObject
  extraData: PyObject
  outputs: readonly string[]
}

/**
 * A binary heap with the array order that Python's `heapq` gives, since `/queue` shows the raw array.
 * Lower numbers first, ties by prompt id.
 */
export class QueueHeap {
  #items: QueueItem[] = []

  get size(): number {
    return this.#items.length
  }

  /** The raw array; not sorted. */
  get items(): readonly QueueItem[] {
    return this.#items
  }

  push(item: QueueItem): void {
    this.#items.push(item)
    this.#towardsRoot(0, this.#items.length - 1)
  }

  pop(): QueueItem | undefined {
    const last = this.#items.pop()
    const first = this.#items[0]
    if (last === undefined || first === undefined) return last
    this.#items[0] = last
    this.#towardsLeaf(0)
    return first
  }

  /** Removes the first item with that id. False when there is none. */
  remove(promptId: string): boolean {
    const index = this.#items.findIndex((item) => item.promptId === promptId)
    if (index < 0) return false
    this.#items.splice(index, 1)
    for (let at = (this.#items.length >> 1) - 1; at >= 0; at -= 1) this.#towardsLeaf(at)
    return true
  }

  clear(): void {
    this.#items = []
  }

  #towardsRoot(start: number, from: number): void {
    let at = from
    const item = this.#at(at)
    while (at > start) {
      const parentAt = (at - 1) >> 1
      const parent = this.#at(parentAt)
      if (!comesBefore(item, parent)) break
      this.#items[at] = parent
      at = parentAt
    }
    this.#items[at] = item
  }

  #towardsLeaf(start: number): void {
    const item = this.#at(start)
    let at = start
    for (let child = 2 * at + 1; child < this.#items.length; child = 2 * at + 1) {
      const right = child + 1
      if (right < this.#items.length && !comesBefore(this.#at(child), this.#at(right))) child = right
      this.#items[at] = this.#at(child)
      at = child
    }
    this.#items[at] = item
    this.#towardsRoot(start, at)
  }

  #at(index: number): QueueItem {
    const item = this.#items[index]
    if (!item) throw new RangeError(`No queue item at ${index}`)
    return item
  }
}

function comesBefore(a: QueueItem, b: QueueItem): boolean {
  if (a.number.value !== b.number.value) return a.number.value < b.number.value
  return a.promptId < b.promptId
}
