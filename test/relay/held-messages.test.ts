import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HeldMessages } from '../../src/relay/held-messages.ts'
import { HoldBudget } from '../../src/relay/hold-budget.ts'
import type { MessageKind } from '../../src/relay/message.ts'
import { Spool } from '../../src/relay/spool.ts'

describe('held messages', () => {
  let dir: string
  let errors: unknown[]
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'held-'))
    errors = []
  })
  afterEach(() => rmSync(dir, { recursive: true, force: true }))

  const openSpool = (maxBytes = 1_000_000, where = dir): Spool =>
    new Spool({ dir: where, maxBytes, log: { error: (...args: unknown[]) => errors.push(args) } })

  function hold(options: { limit: number; spool?: Spool }) {
    const budget = new HoldBudget(options.limit)
    const spool = options.spool ?? openSpool()
    const held = new HeldMessages(budget, spool.file())
    const add = (kind: MessageKind, content: string | Uint8Array): void => {
      held.add({ kind, content })
      budget.settle()
    }
    const drain = (): (string | Uint8Array | undefined)[] => {
      const contents: (string | Uint8Array | undefined)[] = []
      for (let first = held.first(); first; first = held.first()) {
        contents.push(held.read(first))
        held.remove(first)
      }
      return contents
    }
    return { budget, spool, held, add, drain }
  }

  it('keep only the latest progress of each kind, behind what came before it', () => {
    const { add, drain, budget } = hold({ limit: 100_000 })
    add('start', 'start')
    add('progress', 'p1')
    add('progress_state', 's1')
    add('executing', 'e1')
    add('progress', 'p2')
    add('preview', Buffer.from('v1'))
    add('preview', Buffer.from('v2'))
    add('essential', 'executed')
    add('progress_state', 's2')
    expect(drain()).toEqual(['start', 'e1', 'p2', Buffer.from('v2'), 'executed', 's2'])
    expect(budget.usedBytes).toBe(0)
  })

  it('keep every executing message: clients count from them which nodes ran', () => {
    const { add, drain } = hold({ limit: 100_000 })
    add('executing', 'e1')
    add('progress', 'p')
    add('executing', 'e2')
    add('essential', 'executed')
    add('executing', 'e3')
    expect(drain()).toEqual(['e1', 'p', 'e2', 'executed', 'e3'])
  })

  it('stay below the bound: progress goes, results wait on disk and come back in order', () => {
    const { add, drain, budget } = hold({ limit: 20_000 })
    const results = Array.from({ length: 40 }, (_, index) => Buffer.alloc(5_000, index))
    add('preview', Buffer.alloc(9_000))
    add('progress', 'p')
    for (const [index, bytes] of results.entries()) {
      add('result', bytes)
      add('essential', `executed ${index} ${'é'.repeat(1_100)}`)
      expect(budget.usedBytes).toBeLessThanOrEqual(26_000)
    }
    expect(readdirSync(dir)).toEqual(['held-0.spool'])
    expect(drain()).toEqual(results.flatMap((bytes, index) => [bytes, `executed ${index} ${'é'.repeat(1_100)}`]))
    expect(readdirSync(dir)).toEqual([])
    expect(budget.usedBytes).toBe(0)
    expect(errors).toEqual([])
  })

  it('lose what is not important before they pass the bound, and never what is', () => {
    const { add, drain, budget } = hold({ limit: 9_000 })
    for (let number = 0; number < 100; number++) add('other', `extension ${number}`)
    expect(budget.usedBytes).toBeLessThanOrEqual(9_000)
    for (let number = 0; number < 100; number++) add('essential', `executed ${number}`)
    const told = drain()
    expect(told.filter((content) => String(content).startsWith('executed'))).toHaveLength(100)
    expect(told.filter((content) => String(content).startsWith('extension'))).toEqual([])
  })

  it('lose results, with one line in the log, when the disk takes no more', () => {
    const { add, drain, budget } = hold({ limit: 20_000, spool: openSpool(30_000) })
    for (let number = 0; number < 40; number++) add('result', Buffer.alloc(5_000, number))
    expect(budget.usedBytes).toBeLessThanOrEqual(20_000)
    add('essential', 'executed')
    const told = drain()
    expect(told.length).toBeGreaterThan(6)
    expect(told.at(-1)).toBe('executed')
    expect(errors).toHaveLength(1)
    expect(readdirSync(dir)).toEqual([])
  })

  it('lose nothing important when the folder cannot be made', () => {
    const blocked = join(dir, 'file')
    writeFileSync(blocked, '')
    const { add, drain, budget } = hold({ limit: 4_000, spool: openSpool(1_000_000, join(blocked, 'spool')) })
    add('essential', 'executed'.repeat(300))
    for (let number = 0; number < 5; number++) add('result', Buffer.alloc(5_000))
    expect(drain()).toEqual(['executed'.repeat(300)])
    expect(errors).toHaveLength(1)
    expect(budget.usedBytes).toBe(0)
  })

  it('leave no file behind when they are dropped or the process before was killed', () => {
    writeFileSync(join(dir, 'held-17.spool'), 'left over')
    writeFileSync(join(dir, 'mine.txt'), 'not ours')
    const { add, held, spool } = hold({ limit: 1_000 })
    expect(readdirSync(dir)).toEqual(['mine.txt'])
    add('result', Buffer.alloc(5_000))
    expect(existsSync(join(dir, 'held-0.spool'))).toBe(true)
    held.clear()
    expect(readdirSync(dir)).toEqual(['mine.txt'])
    add('result', Buffer.alloc(5_000))
    spool.close()
    expect(readdirSync(dir)).toEqual(['mine.txt'])
  })
})
