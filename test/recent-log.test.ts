import { pino } from 'pino'
import { expect, it } from 'vitest'
import { RecentLog } from '../src/recent-log.ts'

it('shows the newest lines in words, errors without where they came from', () => {
  const recent = new RecentLog()
  const log = pino({}, recent)
  for (let index = 0; index < 300; index++) log.info('old')
  log.info({ workerId: 'w1', counts: [1, 2] }, 'worker is up')
  log.child({ promptId: 'p' }).warn({ err: new Error('refused') }, 'worker call failed')
  recent.write('no JSON\n')
  const lines = recent.lines()
  expect(lines).toHaveLength(299)
  expect(lines.at(-2)?.text).toBe('worker is up workerId=w1 counts=[1,2]')
  expect(lines.at(-1)?.text).toBe('warn worker call failed promptId=p err=refused')
  expect(Date.now() - Date.parse(lines.at(-1)?.at ?? '')).toBeLessThan(10_000)
})

it('does not keep a line of any length', () => {
  const recent = new RecentLog()
  pino({}, recent).info({ text: 'x'.repeat(100_000) }, 'long')
  expect(recent.lines()[0]?.text.length).toBe(2_000)
})
