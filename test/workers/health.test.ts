import { describe, expect, it } from 'vitest'
import { type HealthSettings, WorkerHealth } from '../../src/workers/health.ts'

const settings: HealthSettings = {
  fall: 3,
  rise: 2,
  suspectAfterMs: 15_000,
  refusedGiveUpMs: 5_000,
  giveUpMs: 120_000,
  tripAfter: 3,
  tripMs: 10_000,
  tripMaxMs: 120_000,
}

/** A worker that is well at time 0. */
function aHealthyOne(): WorkerHealth {
  const health = new WorkerHealth(settings, 0)
  health.socketOpened(0)
  health.checked(0)
  expect(health.state.kind).toBe('healthy')
  return health
}

describe('the health of a worker', () => {
  it('is not healthy before both a check and its socket are well', () => {
    const health = new WorkerHealth(settings, 0)
    health.checked(0)
    expect(health.state.kind).toBe('connecting')
    health.socketOpened(1)
    expect(health.state.kind).toBe('healthy')
  })

  it('doubts a worker at once when its socket is gone, and trusts it again when it is back', () => {
    const health = aHealthyOne()
    health.socketClosed(100, 'reset')
    expect(health.state).toMatchObject({ kind: 'suspect', since: 100, reason: expect.stringContaining('reset') })
    health.socketOpened(200)
    expect(health.state.kind).toBe('suspect')
    health.checked(300)
    expect(health.state.kind).toBe('healthy')
  })

  it('doubts a worker that is silent for 15 s, and not before', () => {
    const health = aHealthyOne()
    health.evaluate(14_999)
    expect(health.state.kind).toBe('healthy')
    health.evaluate(15_000)
    expect(health.state).toMatchObject({ kind: 'suspect', reason: expect.stringContaining('silent') })
  })

  it('doubts a worker after three missed checks', () => {
    const health = aHealthyOne()
    health.missed(1_000, 'timeout', 'slow')
    health.missed(2_000, 'timeout', 'slow')
    expect(health.state.kind).toBe('healthy')
    health.missed(3_000, 'timeout', 'slow')
    expect(health.state.kind).toBe('suspect')
  })

  it('gives a silent worker up only after the time for that', () => {
    const health = aHealthyOne()
    for (let at = 2_000; at < 120_000; at += 2_000) health.missed(at, 'timeout', 'slow')
    expect(health.state.kind).toBe('suspect')
    health.missed(120_000, 'timeout', 'slow')
    expect(health.state.kind).toBe('down')
  })

  it('gives a worker up after 5 s of refused connections, and not before', () => {
    const health = aHealthyOne()
    health.socketClosed(1_000, 'closed')
    health.missed(1_000, 'unreachable', 'refused')
    health.missed(5_900, 'unreachable', 'refused')
    expect(health.state.kind).toBe('suspect')
    health.missed(6_000, 'unreachable', 'refused')
    expect(health.state.kind).toBe('down')
  })

  it('takes a proxy that says that nothing is behind it for a refusal', () => {
    const health = aHealthyOne()
    for (const at of [1_000, 2_000, 3_000, 6_500]) health.missed(at, 'protocol', 'answered 502', 502)
    expect(health.state.kind).toBe('down')
  })

  it('counts refusals anew after an answer', () => {
    const health = aHealthyOne()
    health.socketClosed(0, 'closed')
    health.missed(1_000, 'unreachable', 'refused')
    health.checked(4_000)
    health.missed(6_100, 'unreachable', 'refused')
    health.missed(9_000, 'unreachable', 'refused')
    expect(health.state.kind).toBe('suspect')
  })

  it('uses a worker that was down only after two good checks', () => {
    const health = aHealthyOne()
    health.socketClosed(0, 'closed')
    health.missed(0, 'unreachable', 'refused')
    health.missed(5_000, 'unreachable', 'refused')
    expect(health.state.kind).toBe('down')
    health.socketOpened(6_000)
    health.checked(6_000)
    expect(health.state.kind).toBe('down')
    health.checked(7_000)
    expect(health.state.kind).toBe('healthy')
  })

  it('doubts a worker at once when a real call is reset or hangs', () => {
    for (const fault of ['reset', 'timeout'] as const) {
      const health = aHealthyOne()
      health.callFailed(1_000, fault, 'POST /prompt')
      expect(health.state.kind).toBe('suspect')
    }
  })

  it('pauses a worker that answers badly three times in a row, longer each time', () => {
    const health = aHealthyOne()
    for (const at of [1_000, 1_001]) health.callFailed(at, 'protocol', 'answered 500', 500)
    expect(health.state.kind).toBe('healthy')
    health.callFailed(1_002, 'protocol', 'answered 500', 500)
    expect(health.state.kind).toBe('suspect')
    health.checked(10_000)
    expect(health.state.kind).toBe('suspect')
    health.checked(11_002)
    expect(health.state.kind).toBe('healthy')
    health.callFailed(11_003, 'protocol', 'answered 500', 500)
    expect(health.state.kind).toBe('suspect')
    health.checked(30_000)
    expect(health.state.kind).toBe('suspect')
    health.checked(31_003)
    expect(health.state.kind).toBe('healthy')
    health.callSucceeded(31_004)
    health.callFailed(31_005, 'protocol', 'answered 500', 500)
    expect(health.state.kind).toBe('healthy')
  })

  it('does not give up what an earlier process left there because of one refusal at start', () => {
    const health = new WorkerHealth(settings, 0)
    health.missed(10, 'unreachable', 'refused')
    expect(health.state.kind).toBe('suspect')
  })
})
