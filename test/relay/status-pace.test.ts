import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { StatusPace } from '../../src/relay/status-pace.ts'

describe('the pace of status messages', () => {
  beforeEach(() => vi.useFakeTimers())
  afterEach(() => vi.useRealTimers())

  function start() {
    const sentAt: number[] = []
    const pace: StatusPace = new StatusPace({ send: () => sentAt.push(Date.now()), now: Date.now })
    return { pace, sentAt }
  }

  it('lets the two of one prompt pass at once', () => {
    const { pace, sentAt } = start()
    pace.touch()
    pace.touch()
    expect(sentAt).toHaveLength(2)
  })

  it('never sends more than four in a second, and always one after the last change', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 400 }), { minLength: 1, maxLength: 60 }), (pauses) => {
        const { pace, sentAt } = start()
        let touchedAt = 0
        for (const pause of pauses) {
          vi.advanceTimersByTime(pause)
          touchedAt = Date.now()
          pace.touch()
        }
        vi.advanceTimersByTime(500)
        expect(sentAt.at(-1)).toBeGreaterThanOrEqual(touchedAt)
        for (const from of sentAt) {
          expect(sentAt.filter((at) => at >= from && at < from + 1000).length).toBeLessThanOrEqual(4)
        }
        expect(vi.getTimerCount()).toBe(0)
      }),
    )
  })

  it('leaves out what was told in another way', () => {
    const { pace, sentAt } = start()
    for (let touch = 0; touch < 3; touch++) pace.touch()
    pace.settle()
    vi.advanceTimersByTime(5_000)
    expect(sentAt).toHaveLength(2)
  })
})
