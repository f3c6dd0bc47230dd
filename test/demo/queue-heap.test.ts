import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pyInt } from '../../src/demo/py-json.ts'
import { QueueHeap, type QueueItem } from '../../src/demo/queue-heap.ts'

const item = (number: number, promptId = String(number)): QueueItem => ({
  number: pyInt(number),
  promptId,
  prompt: new Map(),
  extraData: new Map(),
  outputs: [],
})

describe('the queue', () => {
  it('shows the raw heap, as a real worker does', () => {
    const heap = new QueueHeap()
    for (const number of [1, -2, 3, -4, 5].map((each, index) => (each < 0 ? -(index + 1) : index + 1)))
      heap.push(item(number))
    expect(heap.items.map(({ number }) => number.value)).toEqual([-4, -2, 3, 1, 5])
  })

  it('gives the lowest number first and breaks ties by id', () => {
    const numbers = fc.array(fc.tuple(fc.integer({ min: -5, max: 5 }), fc.uuid()), { maxLength: 40 })
    fc.assert(
      fc.property(numbers, fc.nat(), (entries, pick) => {
        const heap = new QueueHeap()
        for (const [number, id] of entries) heap.push(item(number, id))
        const removed = entries[pick % (entries.length || 1)]?.[1]
        if (removed !== undefined) expect(heap.remove(removed)).toBe(true)
        const left = entries.filter(([, id]) => id !== removed)
        const popped: [number, string][] = []
        for (let next = heap.pop(); next; next = heap.pop()) popped.push([next.number.value, next.promptId])
        expect(popped).toEqual(left.toSorted(([a, x], [b, y]) => a - b || (x < y ? -1 : 1)))
      }),
    )
  })

  it('says when there is nothing to remove', () => {
    expect(new QueueHeap().remove('x')).toBe(false)
  })
})
