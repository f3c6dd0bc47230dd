import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Waiting, WaitingLine } from '../../src/queue/waiting-line.ts'

const waiting = (sequence: number, given: Partial<Waiting> = {}): Waiting => ({
  promptId: `p${sequence}`,
  caller: 'a',
  priority: 0,
  number: sequence,
  sequence,
  ...given,
})

const order = (line: WaitingLine<Waiting>): string[] => [...line].map(({ promptId }) => promptId)

const lineOf = (...entries: Waiting[]): WaitingLine<Waiting> => {
  const line = new WaitingLine<Waiting>()
  for (const entry of entries) line.add(entry)
  return line
}

describe('the waiting line', () => {
  it('serves equal prompts in order of arrival', () => {
    expect(order(lineOf(waiting(0), waiting(1), waiting(2)))).toEqual(['p0', 'p1', 'p2'])
  })

  it('serves a higher priority first, whoever sent it', () => {
    const line = lineOf(waiting(0), waiting(1, { caller: 'b', priority: 5 }), waiting(2, { priority: 9 }))
    expect(order(line)).toEqual(['p2', 'p1', 'p0'])
  })

  it('lets the latest front prompt of a caller run first, as ComfyUI does', () => {
    expect(order(lineOf(waiting(0), waiting(1, { number: -1 }), waiting(2, { number: -2 })))).toEqual([
      'p2',
      'p1',
      'p0',
    ])
  })

  it('lets front pass only prompts of the same caller', () => {
    const line = lineOf(
      waiting(0, { caller: 'a' }),
      waiting(1, { caller: 'b' }),
      waiting(2, { caller: 'b' }),
      waiting(3, { caller: 'b', number: -3 }),
    )
    expect(order(line)).toEqual(['p0', 'p3', 'p1', 'p2'])
  })

  it('keeps the places of the others when one is taken out', () => {
    const line = lineOf(waiting(0), waiting(1, { caller: 'b' }), waiting(2, { number: -2 }))
    expect(order(line)).toEqual(['p2', 'p1', 'p0'])
    expect(line.remove('p2')).toBe(true)
    expect(order(line)).toEqual(['p1', 'p0'])
    expect(line.remove('p2')).toBe(false)
  })

  it('gives a prompt that comes back its old place', () => {
    const first = waiting(0)
    const line = lineOf(first, waiting(1, { caller: 'b' }))
    line.remove('p0')
    line.add(waiting(2))
    line.add(first)
    expect(order(line)).toEqual(['p0', 'p1', 'p2'])
  })

  it('never lets a caller gain or lose places by the numbers of its prompts', () => {
    const entry = fc.record({
      caller: fc.constantFrom('a', 'b', 'c'),
      priority: fc.constantFrom(0, 1),
      number: fc.option(fc.integer({ min: -20, max: 20 }), { nil: undefined }),
    })
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 40 }), (entries) => {
        const all = entries.map(({ number, ...rest }, sequence) =>
          waiting(sequence, number === undefined ? rest : { ...rest, number }),
        )
        const listed = [...lineOf(...all)]
        const byArrival = all.toSorted((a, b) => b.priority - a.priority || a.sequence - b.sequence)
        expect(listed.map(({ caller }) => caller)).toEqual(byArrival.map(({ caller }) => caller))
        for (const caller of ['a', 'b', 'c']) {
          for (const priority of [0, 1]) {
            const own = listed.filter((each) => each.caller === caller && each.priority === priority)
            const sorted = own.toSorted((a, b) => a.number - b.number || a.sequence - b.sequence)
            expect(own).toEqual(sorted)
          }
        }
      }),
    )
  })
})
