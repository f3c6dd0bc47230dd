import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import type { BlobHash } from '../../../src/files/blobs/blobs.ts'
import { type HeldImageLimits, HeldImages } from '../../../src/files/images/held-images.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'

const hashOf = (digit: number): BlobHash => digit.toString(16).repeat(64)
const blob = (digit: number, size = 10) => ({ hash: hashOf(digit), size })

function held(limits: Partial<HeldImageLimits> = {}, used: readonly BlobHash[] = []) {
  let time = 1_000_000
  const deleted: BlobHash[] = []
  const images = new HeldImages({
    records: createMemoryStore().records,
    blobs: {
      delete: async (hash) => {
        deleted.push(hash)
        return true
      },
    },
    isUsedElsewhere: async (hash) => used.includes(hash),
    now: () => time,
    log: pino({ level: 'silent' }),
    limits,
  })
  return {
    images,
    deleted,
    pass: (ms: number) => {
      time += ms
    },
    put: async (owner: string, id: string, digit: number, size = 10) => {
      const answer = await images.put(owner, id, blob(digit, size), 'image/png')
      await images.tidy()
      time += 1
      return answer
    },
    hash: async (owner: string, id: string) => (await images.find(owner, id))?.hash,
  }
}

describe('held pictures', () => {
  it('are kept for each owner, and say whether the id had the same content', async () => {
    const { images, put, hash } = held()
    expect([await put('a', 'x', 1), await put('a', 'x', 1), await put('b', 'x', 2)]).toEqual(['new', 'same', 'new'])
    expect([await hash('a', 'x'), await hash('b', 'x'), await hash('c', 'x')]).toEqual([
      hashOf(1),
      hashOf(2),
      undefined,
    ])
    expect(await put('a', 'x', 3)).toBe('new')
    expect(await images.find('a', 'x')).toEqual({ hash: hashOf(3), size: 10, contentType: 'image/png' })
    expect([await images.isUsed(hashOf(3)), await images.isUsed(hashOf(1))]).toEqual([true, false])
  })

  it('over the number go by last use, of this owner alone', async () => {
    const { put, hash, pass, deleted } = held({ images: 2 })
    await put('b', 'x', 9)
    await put('a', '1', 1)
    await put('a', '2', 2)
    pass(60_000)
    await hash('a', '1')
    await put('a', '3', 3)
    expect([await hash('a', '1'), await hash('a', '2'), await hash('a', '3')]).toEqual([
      hashOf(1),
      undefined,
      hashOf(3),
    ])
    expect(await hash('b', 'x')).toBe(hashOf(9))
    expect(deleted).toEqual([hashOf(2)])
  })

  it('over the bytes go, and their content stays where something else needs it', async () => {
    const { put, hash, deleted } = held({ bytes: 25 }, [hashOf(1)])
    await put('a', '1', 1)
    await put('a', '2', 2)
    await put('a', '3', 3)
    await put('a', '4', 3)
    expect([await hash('a', '1'), await hash('a', '2'), await hash('a', '3')]).toEqual([
      undefined,
      undefined,
      hashOf(3),
    ])
    expect(deleted).toEqual([hashOf(2)])
  })

  it('are gone when nobody used them for long', async () => {
    const { images, put, hash, pass, deleted } = held({ ageMs: 100_000 })
    await put('a', 'x', 1)
    pass(80_000)
    expect(await hash('a', 'x')).toBe(hashOf(1))
    pass(80_000)
    expect(await hash('a', 'x')).toBe(hashOf(1))
    pass(100_000)
    expect(await hash('a', 'x')).toBeUndefined()
    await images.tidy()
    expect(deleted).toEqual([hashOf(1)])
  })
})
