import { expect, it } from 'vitest'
import { rendezvous } from '../../src/scheduler/rendezvous.ts'

const ids = ['a', 'b', 'c', 'd'].map((id) => ({ id }))
const keys = Array.from({ length: 400 }, (_, n) => `client ${n}`)

it('moves only the keys of a candidate that goes', () => {
  const without = ids.filter(({ id }) => id !== 'c')
  for (const key of keys) {
    const before = rendezvous(ids, key)?.id
    const after = rendezvous(without, key)?.id
    if (before !== 'c') expect(after).toBe(before)
    else expect(after).not.toBe('c')
  }
})

it('spreads keys over all, and does not mind their order', () => {
  const counts = new Map<string, number>()
  for (const key of keys) {
    const id = rendezvous(ids, key)?.id ?? ''
    expect(rendezvous(ids.toReversed(), key)?.id).toBe(id)
    counts.set(id, (counts.get(id) ?? 0) + 1)
  }
  for (const { id } of ids) expect(counts.get(id)).toBeGreaterThan(60)
})

it('answers nothing when there is nobody', () => expect(rendezvous([], 'a')).toBeUndefined())
