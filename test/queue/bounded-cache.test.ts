import { expect, it } from 'vitest'
import { BoundedCache } from '../../src/queue/bounded-cache.ts'

it('lets go of what was not used for longest when it is full', () => {
  const cache = new BoundedCache<string>({ maxBytes: 10 })
  cache.set('a', 'A', 4)
  cache.set('b', 'B', 4)
  expect(cache.get('a')).toBe('A')
  cache.set('c', 'C', 4)
  expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual(['A', undefined, 'C'])
  expect(cache.bytes).toBe(8)
})

it('does not keep what is larger than the whole, nor the older value under that key', () => {
  const cache = new BoundedCache<string>({ maxBytes: 10 })
  cache.set('a', 'A', 4)
  cache.set('a', 'huge', 11)
  expect(cache.get('a')).toBeUndefined()
  expect(cache.bytes).toBe(0)
})

it('counts a key once however often it is set', () => {
  const cache = new BoundedCache<string>({ maxBytes: 10 })
  for (const value of ['x', 'y', 'z']) cache.set('a', value, 6)
  expect([cache.get('a'), cache.bytes]).toEqual(['z', 6])
  cache.delete('a')
  expect(cache.bytes).toBe(0)
})
