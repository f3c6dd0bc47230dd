import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PromptIdInUseError, StoreUnavailableError } from '../../src/errors.ts'
import type { Attempt, JobQuery, NewPrompt, Store } from '../../src/store/store.ts'
import { maxLogLines } from '../../src/store/store.ts'
import { aFile, anOutcome, aPrompt } from '../support/prompts.ts'

export interface OpenedStore {
  store: Store
  /** Moves the store's clock; a back end whose clock cannot be moved waits. */
  advance(ms: number): Promise<void>
}

const window = { idempotencyMs: 600_000 }
const everyJob: JobQuery = {
  owner: undefined,
  statuses: [],
  workflowId: undefined,
  sortBy: 'created_at',
  descending: false,
  limit: undefined,
  offset: 0,
}

/** What every store does. `open` gives an empty one each time. */
export function storeContract(name: string, open: () => Promise<OpenedStore>): void {
  describe(`${name} store`, () => {
    let store: Store
    let advance: OpenedStore['advance']

    beforeEach(async () => {
      const opened = await open()
      store = opened.store
      advance = opened.advance
    })
    afterEach(() => store.close())

    const admit = (prompt: Partial<NewPrompt> & { promptId: string }) => store.prompts.admit(aPrompt(prompt), window)

    async function start(promptId: string, workerId = 'w1', fence = 1): Promise<Attempt> {
      const attempt = await store.prompts.startAttempt({ promptId, workerId, fence, log: `to ${workerId}` })
      if (attempt === undefined) throw new Error(`${promptId} could not be claimed`)
      return attempt
    }

    async function run(prompt: Partial<NewPrompt> & { promptId: string }, outcome = anOutcome()): Promise<void> {
      await admit(prompt)
      await store.prompts.finish(await start(prompt.promptId), outcome, 'finished')
    }

    const ids = (entries: readonly { promptId: string }[]) => entries.map((entry) => entry.promptId)

    describe('admission', () => {
      it('gives sequences from 0 on and keeps everything about a prompt', async () => {
        const traits = {
          classTypes: ['A', 'B'],
          combos: [{ classType: 'A', input: 'ckpt_name', value: 'ünï\\code.safetensors' }],
          outputs: ['9', '12'],
          nodeCount: 12,
          sizes: [512],
          hasPaidNodes: true,
          pinnedWorkerIds: ['w7'],
          inputs: [{ literal: 'a/b.png [temp]', hash: 'f00d', name: 'b.png', subfolder: 'a', type: 'temp' as const }],
        }
        const first = await admit({ promptId: 'a', clientId: 'client', workflowId: 'flow', priority: -3, traits })
        const second = await admit({ promptId: 'b' })
        expect(first.kind).toBe('admitted')
        expect(first.prompt).toEqual({
          promptId: 'a',
          upstreamId: 'upstream-a',
          gatewayJobId: 'job-a',
          owner: 'open',
          caller: '127.0.0.1',
          clientId: 'client',
          sequence: 0,
          number: 0,
          numberGiven: false,
          priority: -3,
          status: 'queued',
          admitted: true,
          listed: true,
          attempt: 0,
          sentAttempts: 0,
          workerDeaths: 0,
          workerId: undefined,
          bodyHash: 'hash',
          traits,
          workflowId: 'flow',
          createdAt: expect.any(Number),
          startedAt: undefined,
          finishedAt: undefined,
          reason: undefined,
          summary: undefined,
          told: false,
        })
        expect(await store.prompts.get('a')).toEqual(first.prompt)
        expect(await store.prompts.getByGatewayJobId('job-b')).toEqual(second.prompt)
        expect(second.prompt.sequence).toBe(1)
        expect(await store.prompts.get('c')).toBeUndefined()
        expect(await store.prompts.getByGatewayJobId('job-c')).toBeUndefined()
      })

      it('orders by number as ComfyUI does', async () => {
        const first = await admit({ promptId: 'a', order: 'front' })
        const front = await admit({ promptId: 'b', order: 'front' })
        const given = await admit({ promptId: 'c', order: -2.5 })
        const last = await admit({ promptId: 'd' })
        const numbers = [first, front, given, last].map(({ prompt }) => prompt.number)
        expect(numbers).toEqual([0, -1, -2.5, 3])
        const stored = await store.prompts.unfinished()
        expect(stored.map((prompt) => [prompt.number, prompt.numberGiven])).toEqual([
          [0, false],
          [-1, false],
          [-2.5, true],
          [3, false],
        ])
      })

      it('keeps every number that a client can send', async () => {
        const extreme = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e308, 5e-324]
        const orders = [...extreme, 0.1 + 0.2, 91.72934029937619, -916726933546.0593]
        for (const [at, order] of orders.entries()) await admit({ promptId: `p${at}`, order })
        expect((await store.prompts.unfinished()).map((prompt) => prompt.number)).toEqual(orders)
      })

      it('admits one of many at the same moment with one id', async () => {
        const answers = await Promise.all(Array.from({ length: 20 }, () => admit({ promptId: 'same' })))
        expect(answers.filter((answer) => answer.kind === 'admitted')).toHaveLength(1)
        expect(new Set(answers.map((answer) => answer.prompt.sequence)).size).toBe(1)
        expect(await store.prompts.unfinished()).toHaveLength(1)
      })

      it('refuses one of two at the same moment with one id and different bodies', async () => {
        const answers = await Promise.allSettled([
          admit({ promptId: 'same', bodyHash: 'one' }),
          admit({ promptId: 'same', bodyHash: 'other' }),
        ])
        expect(answers.map((answer) => answer.status).toSorted()).toEqual(['fulfilled', 'rejected'])
        const refused = answers.find((answer) => answer.status === 'rejected')
        expect(refused?.reason).toBeInstanceOf(PromptIdInUseError)
      })

      it('does not undo its neighbours when an admission is refused', async () => {
        await admit({ promptId: 'taken' })
        const answers = await Promise.allSettled([
          admit({ promptId: 'before' }),
          admit({ promptId: 'taken', bodyHash: 'other' }),
          admit({ promptId: 'after' }),
        ])
        expect(answers.map((answer) => answer.status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
        expect(ids(await store.prompts.unfinished())).toEqual(['taken', 'before', 'after'])
      })

      it('knows an unfinished prompt however old it is', async () => {
        await admit({ promptId: 'a' })
        await advance(window.idempotencyMs * 2)
        expect(await admit({ promptId: 'a' })).toMatchObject({ kind: 'known', prompt: { sequence: 0 } })
        await expect(admit({ promptId: 'a', bodyHash: 'other' })).rejects.toBeInstanceOf(PromptIdInUseError)
      })

      it('knows a finished prompt within the window, and runs it again after', async () => {
        await run({ promptId: 'a', gatewayJobId: 'old' }, anOutcome({ files: [aFile()] }))
        await advance(window.idempotencyMs - 1)
        expect(await admit({ promptId: 'a' })).toMatchObject({ kind: 'known', prompt: { status: 'succeeded' } })
        await expect(admit({ promptId: 'a', bodyHash: 'other' })).rejects.toBeInstanceOf(PromptIdInUseError)
        await advance(1)

        const again = await admit({ promptId: 'a', bodyHash: 'other', gatewayJobId: 'new' })
        expect(again).toMatchObject({ kind: 'admitted', prompt: { sequence: 1, status: 'queued', attempt: 0 } })
        expect(await store.prompts.historyEntry('a')).toBeUndefined()
        expect(await store.prompts.logOf('a')).toEqual([])
        expect(await store.prompts.getByGatewayJobId('old')).toBeUndefined()
        expect(await store.prompts.findFile(aFile())).toMatchObject({ promptId: 'a' })
      })

      it('never gives an id to another owner', async () => {
        await run({ promptId: 'a', owner: 'ann' })
        await advance(window.idempotencyMs * 2)
        await expect(admit({ promptId: 'a', owner: 'bob' })).rejects.toBeInstanceOf(PromptIdInUseError)
      })

      it('never gives a sequence twice, whatever is deleted', async () => {
        await admit({ promptId: 'a', admitted: false })
        await store.prompts.discard('a')
        expect((await admit({ promptId: 'b' })).prompt.sequence).toBe(1)
      })
    })

    describe('texts', () => {
      it('keeps a body byte for byte', async () => {
        const text = '{"seed": 18446744073709551615, "cfg": 1.0, "b": NaN, "2": "é😀\\u0000\u2028\\ud800", "1": -0}\n'
        await admit({ promptId: 'a', body: { text, sealed: 'sealed' } })
        expect(await store.prompts.readBody('a')).toEqual({ text, sealed: 'sealed' })
      })

      it('keeps the oddest ids apart', async () => {
        const odd = ['a', 'a\0', 'a\0b', 'a\ud800', 'a\udc00', 'a\ufffd', 'a\u001a', 'a\u001a0000', 'A', 'a ', '']
        for (const promptId of odd) await admit({ promptId, clientId: promptId, body: { text: promptId, sealed: '' } })
        expect(ids(await store.prompts.unfinished())).toEqual(odd)
        for (const promptId of odd) {
          expect(await store.prompts.get(promptId)).toMatchObject({ promptId, clientId: promptId })
          expect(await store.prompts.readBody(promptId)).toEqual({ text: promptId, sealed: '' })
        }
      })

      it('keeps long ids apart', async () => {
        const long = ['a', 'b'].map((end) => '😀'.repeat(127) + end)
        const endless = 'workflow '.repeat(2_000)
        for (const promptId of long) {
          await admit({
            promptId,
            upstreamId: 'u',
            gatewayJobId: promptId.slice(-1),
            clientId: endless,
            workflowId: endless,
          })
        }
        await admit({ promptId: 'c', workflowId: `${endless}, another` })
        expect(ids(await store.prompts.unfinished())).toEqual([...long, 'c'])
        expect(await store.prompts.get(long[1] ?? '')).toMatchObject({ clientId: endless, workflowId: endless })
        const listed = await store.prompts.list({ ...everyJob, workflowId: endless, limit: 1 })
        expect([listed.prompts.length, listed.total]).toEqual([1, 2])
      })

      it('keeps a text of several megabytes', async () => {
        const text = '0123456789abcdeé'.repeat(300_000)
        await admit({ promptId: 'a', body: { text, sealed: undefined } })
        expect((await store.prompts.readBody('a'))?.text === text).toBe(true)
      })

      it('reads the bodies of those it knows', async () => {
        const many = Array.from({ length: 1200 }, (_, at) => `p${at}`)
        await Promise.all(many.map((promptId) => admit({ promptId, body: { text: promptId, sealed: undefined } })))
        const bodies = await store.prompts.readBodies([...many, 'unknown'])
        expect(bodies.size).toBe(1200)
        expect(bodies.get('p777')).toEqual({ text: 'p777', sealed: undefined })
        expect(await store.prompts.readBody('unknown')).toBeUndefined()
        expect((await store.prompts.readBodies([])).size).toBe(0)
      })
    })

    describe('admitting', () => {
      it('lists an admitting prompt nowhere until it is published, once', async () => {
        await admit({ promptId: 'a', admitted: false })
        expect(await store.prompts.list(everyJob)).toEqual({ prompts: [], total: 0 })
        expect(await store.prompts.get('a')).toMatchObject({ admitted: false })
        expect(ids(await store.prompts.unfinished())).toEqual(['a'])
        expect(await store.prompts.publish('a')).toBe(true)
        expect(await store.prompts.publish('a')).toBe(false)
        expect(await store.prompts.publish('unknown')).toBe(false)
        expect((await store.prompts.list(everyJob)).total).toBe(1)
      })

      it('shows the history of a prompt that ended while admitting once it is published', async () => {
        await run({ promptId: 'a', admitted: false })
        expect(await history({})).toEqual([])
        await store.prompts.publish('a')
        expect(await history({})).toEqual(['a'])
      })

      it('discards an admitting prompt without trace, and no other', async () => {
        await admit({ promptId: 'a', admitted: false })
        await start('a')
        await admit({ promptId: 'b' })
        expect(await store.prompts.discard('a')).toBe(true)
        expect(await store.prompts.discard('a')).toBe(false)
        expect(await store.prompts.discard('b')).toBe(false)
        expect(await store.prompts.get('a')).toBeUndefined()
        expect(await store.prompts.readBody('a')).toBeUndefined()
        expect(await store.prompts.logOf('a')).toEqual([])
        expect(ids(await store.prompts.unfinished())).toEqual(['b'])
      })

      it('either publishes or discards when both are asked at once', async () => {
        await admit({ promptId: 'a', admitted: false })
        const [published, discarded] = await Promise.all([store.prompts.publish('a'), store.prompts.discard('a')])
        expect([published, discarded].filter(Boolean)).toHaveLength(1)
        expect((await store.prompts.get('a')) !== undefined).toBe(published)
      })
    })

    describe('attempts', () => {
      it('gives a queued prompt to one of many claims', async () => {
        await admit({ promptId: 'a' })
        const claims = await Promise.all(
          ['w1', 'w2', 'w3'].map((workerId) =>
            store.prompts.startAttempt({ promptId: 'a', workerId, fence: 1, log: 'claimed' }),
          ),
        )
        const won = claims.filter((claim) => claim !== undefined)
        expect(won).toHaveLength(1)
        expect(await store.prompts.get('a')).toMatchObject({
          status: 'dispatching',
          attempt: 1,
          workerId: won[0]?.workerId,
        })
        expect(await store.prompts.logOf('a')).toHaveLength(1)
      })

      it('claims nothing that is unknown, running or ended', async () => {
        const claim = (promptId: string) =>
          store.prompts.startAttempt({ promptId, workerId: 'w', fence: 1, log: 'claimed' })
        await run({ promptId: 'ended' })
        await admit({ promptId: 'running' })
        await store.prompts.markRunning(await start('running'))
        expect(await Promise.all([claim('unknown'), claim('ended'), claim('running')])).toEqual([
          undefined,
          undefined,
          undefined,
        ])
      })

      it('follows a run from claim to end', async () => {
        await admit({ promptId: 'a', body: { text: '{}', sealed: 'keys' } })
        const attempt = await start('a')
        await advance(10)
        expect(await store.prompts.markRunning(attempt)).toBe(true)
        const running = await store.prompts.get('a')
        await advance(250)
        expect(await store.prompts.markRunning(attempt)).toBe(true)
        const outcome = anOutcome({ summary: '{"n":1}', history: '{"h": 1.0}' })
        const finished = await store.prompts.finish(attempt, outcome, 'done')
        expect(finished).toMatchObject({ status: 'succeeded', summary: '{"n":1}', startedAt: running?.startedAt })
        expect((finished?.finishedAt ?? 0) - (finished?.startedAt ?? 0)).toBeGreaterThanOrEqual(250)
        expect(await store.prompts.get('a')).toEqual(finished)
        expect(await store.prompts.historyEntry('a')).toEqual({ promptId: 'a', text: '{"h": 1.0}' })
        expect(await store.prompts.readBody('a')).toEqual({ text: '{}', sealed: undefined })
        expect((await store.prompts.logOf('a')).map((line) => line.text)).toEqual(['to w1', 'done'])
        expect(await store.prompts.unfinished()).toEqual([])
      })

      it('refuses the writes of an attempt that was given up', async () => {
        await admit({ promptId: 'p' })
        const first = await start('p', 'w1')
        const requeued = await store.prompts.requeue(first, { sent: true, workerDied: true, log: 'worker died' })
        expect(requeued).toMatchObject({ status: 'queued', attempt: 1, sentAttempts: 1, workerDeaths: 1, sequence: 0 })
        const second = await start('p', 'w2')
        expect(second.number).toBe(2)
        const before = await store.prompts.get('p')
        expect(await store.prompts.markRunning(first)).toBe(false)
        expect(await store.prompts.requeue(first, { sent: true, workerDied: true, log: 'late' })).toBeUndefined()
        expect(await store.prompts.finish(first, anOutcome({ files: [aFile()] }), 'late')).toBeUndefined()
        expect(await store.prompts.get('p')).toEqual(before)
        expect(await store.prompts.findFile(aFile())).toBeUndefined()
        expect((await store.prompts.logOf('p')).map((line) => line.text)).toEqual(['to w1', 'worker died', 'to w2'])
        expect(await store.prompts.markRunning(second)).toBe(true)
      })

      it('requeues an attempt once, and counts only what was sent', async () => {
        await admit({ promptId: 'p' })
        const attempt = await start('p')
        const why = { sent: false, workerDied: false, log: 'refused' }
        expect(await store.prompts.requeue(attempt, why)).toMatchObject({ sentAttempts: 0, workerDeaths: 0 })
        expect(await store.prompts.requeue(attempt, why)).toBeUndefined()
        expect(await store.prompts.markRunning(attempt)).toBe(false)
        expect(await store.prompts.get('p')).toMatchObject({ status: 'queued', attempt: 1 })
      })

      it('ends a prompt once, whoever is first', async () => {
        await admit({ promptId: 'p' })
        const attempt = await start('p')
        const answers = await Promise.all([
          store.prompts.finish(attempt, anOutcome(), 'ok'),
          store.prompts.finish(attempt, anOutcome({ status: 'failed', reason: 'broken' }), 'broken'),
          store.prompts.requeue(attempt, { sent: true, workerDied: false, log: 'again' }),
        ])
        expect(answers.filter((answer) => answer !== undefined)).toHaveLength(1)
        expect(await store.prompts.finish(attempt, anOutcome(), 'late')).toBeUndefined()
        expect(await store.prompts.requeue(attempt, { sent: true, workerDied: true, log: 'late' })).toBeUndefined()
        expect(await store.prompts.markRunning(attempt)).toBe(false)
        expect(await history({})).toHaveLength(1)
      })

      it('ends a prompt that was never claimed', async () => {
        await admit({ promptId: 'p' })
        const failed = anOutcome({ status: 'failed', reason: 'nobody fits' })
        expect(await store.prompts.finish({ promptId: 'p', number: 1 }, failed, 'x')).toBeUndefined()
        const ended = await store.prompts.finish({ promptId: 'p', number: 0 }, failed, 'nobody fits')
        expect(ended).toMatchObject({ status: 'failed', reason: 'nobody fits' })
        expect(await store.prompts.finish({ promptId: 'unknown', number: 0 }, failed, 'x')).toBeUndefined()
      })

      it('cancels what is queued and nothing else', async () => {
        await admit({ promptId: 'waiting', body: { text: '{}', sealed: 'keys' } })
        await admit({ promptId: 'sent' })
        await start('sent')
        expect(await store.prompts.cancelQueued('waiting', 'cancelled by its caller')).toMatchObject({
          status: 'cancelled',
          finishedAt: expect.any(Number),
          reason: 'cancelled by its caller',
        })
        expect(await store.prompts.cancelQueued('waiting', 'again')).toBeUndefined()
        expect(await store.prompts.cancelQueued('sent', 'too late')).toBeUndefined()
        expect(await store.prompts.cancelQueued('unknown', 'x')).toBeUndefined()
        expect(await store.prompts.readBody('waiting')).toMatchObject({ sealed: undefined })
        expect(await history({})).toEqual([])
      })

      it('lets either a claim or a cancel have the prompt', async () => {
        await admit({ promptId: 'p' })
        const [attempt, cancelled] = await Promise.all([
          store.prompts.startAttempt({ promptId: 'p', workerId: 'w', fence: 1, log: 'claimed' }),
          store.prompts.cancelQueued('p', 'cancelled'),
        ])
        expect([attempt, cancelled].filter((answer) => answer !== undefined)).toHaveLength(1)
      })

      it('refuses a claim with a fence that was overtaken by a claim', async () => {
        await admit({ promptId: 'a' })
        await admit({ promptId: 'b' })
        await start('a', 'w1', 7)
        const claim = { promptId: 'b', workerId: 'w1', log: 'claimed' }
        expect(await store.prompts.startAttempt({ ...claim, fence: 6 })).toBeUndefined()
        expect(await store.prompts.get('b')).toMatchObject({ status: 'queued', attempt: 0 })
        expect(await store.prompts.startAttempt({ ...claim, fence: 7 })).toMatchObject({ number: 1 })
      })

      it('refuses a claim of a leader whose lease went to another', async () => {
        await admit({ promptId: 'a' })
        const old = await store.leases.acquire({ name: 'lead', holder: 'one', ttlMs: 100 })
        await advance(100)
        const now = await store.leases.acquire({ name: 'lead', holder: 'two', ttlMs: 100 })
        const claim = { promptId: 'a', workerId: 'w1', log: 'claimed' }
        expect(await store.prompts.startAttempt({ ...claim, fence: old?.fence ?? 0 })).toBeUndefined()
        expect(await store.prompts.startAttempt({ ...claim, fence: now?.fence ?? 0 })).toMatchObject({ number: 1 })
      })
    })

    const history = async (query: { owner?: string; maxItems?: number; offset?: number }) =>
      ids(
        await store.prompts.history({
          owner: query.owner ?? undefined,
          maxItems: query.maxItems ?? undefined,
          offset: query.offset ?? undefined,
        }),
      )

    describe('history', () => {
      beforeEach(async () => {
        for (const promptId of ['a', 'b', 'c', 'd', 'e']) await admit({ promptId })
        for (const promptId of ['b', 'a', 'c', 'e', 'd']) {
          await store.prompts.finish(await start(promptId), anOutcome({ history: `"${promptId}"` }), 'done')
        }
      })

      it('is in order of finishing and pages as ComfyUI does', async () => {
        expect(await history({})).toEqual(['b', 'a', 'c', 'e', 'd'])
        expect(await history({ maxItems: 2 })).toEqual(['e', 'd'])
        expect(await history({ maxItems: 2, offset: -1 })).toEqual(['e', 'd'])
        expect(await history({ maxItems: 9 })).toEqual(['b', 'a', 'c', 'e', 'd'])
        expect(await history({ maxItems: 2, offset: 0 })).toEqual(['b', 'a'])
        expect(await history({ maxItems: 2, offset: 3 })).toEqual(['e', 'd'])
        expect(await history({ maxItems: 2, offset: 4 })).toEqual(['d'])
        expect(await history({ offset: 3 })).toEqual(['e', 'd'])
        expect(await history({ maxItems: 2, offset: 5 })).toEqual([])
        expect(await history({ maxItems: 0 })).toEqual([])
        expect(await history({ maxItems: 0, offset: 1 })).toEqual(['a'])
      })

      it('gives each entry its text', async () => {
        const entries = await store.prompts.history({ owner: undefined, maxItems: 1, offset: undefined })
        expect(entries).toEqual([{ promptId: 'd', text: '"d"' }])
      })

      it('is kept apart by owner', async () => {
        await run({ promptId: 'f', owner: 'ann' })
        expect(await history({ owner: 'ann' })).toEqual(['f'])
        expect(await history({ owner: 'open', maxItems: 1 })).toEqual(['d'])
        expect(await history({ maxItems: 2 })).toEqual(['d', 'f'])
      })

      it('forgets single entries, only those of the owner, and keeps the prompts', async () => {
        await store.prompts.deleteHistory({ promptIds: ['a', 'c', 'unknown'], owner: 'ann' })
        expect(await history({})).toHaveLength(5)
        await store.prompts.deleteHistory({ promptIds: ['a', 'unknown'], owner: 'open' })
        await store.prompts.deleteHistory({ promptIds: ['c'], owner: undefined })
        await store.prompts.deleteHistory({ promptIds: [], owner: undefined })
        expect(await history({})).toEqual(['b', 'e', 'd'])
        expect(await store.prompts.historyEntry('a')).toBeUndefined()
        expect(await store.prompts.get('a')).toMatchObject({ status: 'succeeded' })
      })

      it('is cleared for one caller', async () => {
        await run({ promptId: 'f', caller: '10.0.0.9' })
        await store.prompts.clearHistory({ caller: '127.0.0.1' })
        expect(await history({})).toEqual(['f'])
      })

      it('takes a prompt that ran again as the newest', async () => {
        await advance(window.idempotencyMs)
        await run({ promptId: 'a' })
        expect(await history({})).toEqual(['b', 'c', 'e', 'd', 'a'])
      })

      it('has no entry without a text', async () => {
        await run({ promptId: 'f' }, anOutcome({ history: undefined }))
        expect(await history({ maxItems: 1 })).toEqual(['d'])
        expect(await store.prompts.historyEntry('f')).toBeUndefined()
      })
    })

    describe('pruning', () => {
      it('keeps the newest, and everything unfinished', async () => {
        await admit({ promptId: 'waiting' })
        for (const promptId of ['a', 'b', 'c']) {
          await run({ promptId }, anOutcome({ files: [aFile({ filename: `${promptId}.png` })] }))
        }
        expect(await store.prompts.prune({ maxEntries: 2, maxAgeMs: undefined })).toBe(1)
        expect(await store.prompts.prune({ maxEntries: 2, maxAgeMs: undefined })).toBe(0)
        expect(await history({})).toEqual(['b', 'c'])
        expect(await store.prompts.get('a')).toBeUndefined()
        expect(await store.prompts.readBody('a')).toBeUndefined()
        expect(await store.prompts.logOf('a')).toEqual([])
        expect(await store.prompts.findFile(aFile({ filename: 'a.png' }))).toBeUndefined()
        expect(await store.prompts.findFile(aFile({ filename: 'b.png' }))).toMatchObject({ promptId: 'b' })
        expect(await store.prompts.prune({ maxEntries: 0, maxAgeMs: undefined })).toBe(2)
        expect(ids(await store.prompts.unfinished())).toEqual(['waiting'])
      })

      it('forgets what ended too long ago', async () => {
        await run({ promptId: 'old' })
        await advance(1000)
        await run({ promptId: 'new' })
        expect(await store.prompts.prune({ maxEntries: undefined, maxAgeMs: 1000 })).toBe(0)
        await advance(1)
        expect(await store.prompts.prune({ maxEntries: 5, maxAgeMs: 1000 })).toBe(1)
        expect(await history({})).toEqual(['new'])
        expect(await store.prompts.prune({ maxEntries: undefined, maxAgeMs: undefined })).toBe(0)
      })

      it('forgets many in one call', async () => {
        await Promise.all(Array.from({ length: 700 }, (_, at) => run({ promptId: `p${at}` })))
        expect(await store.prompts.prune({ maxEntries: 50, maxAgeMs: undefined })).toBe(650)
        expect((await store.prompts.list(everyJob)).total).toBe(50)
      })
    })

    describe('lists', () => {
      const list = async (query: Partial<JobQuery>) => {
        const { prompts, total } = await store.prompts.list({ ...everyJob, ...query })
        return [ids(prompts), total]
      }

      beforeEach(async () => {
        await run({ promptId: 'a', workflowId: 'flow' })
        await advance(1)
        await admit({ promptId: 'b', owner: 'ann' })
        await advance(1)
        const slow = aPrompt({ promptId: 'c', workflowId: 'flow', owner: 'ann' })
        await store.prompts.admit(slow, window)
        const attempt = await start('c')
        await store.prompts.markRunning(attempt)
        await advance(500)
        await store.prompts.finish(attempt, anOutcome({ status: 'failed' }), 'failed')
        await admit({ promptId: 'd' })
        await store.prompts.markRunning(await start('d'))
      })

      it('lists all, by creation, both ways', async () => {
        expect(await list({})).toEqual([['a', 'b', 'c', 'd'], 4])
        expect(await list({ descending: true })).toEqual([['d', 'c', 'b', 'a'], 4])
      })

      it('pages over several statuses', async () => {
        expect(await list({ limit: 2 })).toEqual([['a', 'b'], 4])
        expect(await list({ limit: 2, offset: 1 })).toEqual([['b', 'c'], 4])
        expect(await list({ limit: 2, offset: 3, descending: true })).toEqual([['a'], 4])
        expect(await list({ limit: 0 })).toEqual([[], 4])
        expect(await list({ offset: 9 })).toEqual([[], 4])
        expect(await list({ offset: 2 })).toEqual([['c', 'd'], 4])
      })

      it('filters by owner, status and workflow', async () => {
        expect(await list({ owner: 'ann' })).toEqual([['b', 'c'], 2])
        expect(await list({ statuses: ['succeeded', 'failed', 'failed'] })).toEqual([['a', 'c'], 2])
        expect(await list({ statuses: ['running'] })).toEqual([['d'], 1])
        expect(await list({ workflowId: 'flow' })).toEqual([['a', 'c'], 2])
        expect(await list({ workflowId: 'flow', owner: 'ann', statuses: ['failed', 'queued'] })).toEqual([['c'], 1])
        expect(await list({ workflowId: 'other' })).toEqual([[], 0])
      })

      it('sorts by duration, what never ran as zero', async () => {
        const [longest] = await list({ sortBy: 'execution_duration', descending: true })
        expect(longest).toEqual(['c', 'd', 'b', 'a'])
        const [shortest] = await list({ sortBy: 'execution_duration' })
        expect(shortest).toEqual(['a', 'b', 'd', 'c'])
      })

      it('leaves out what was cancelled while it waited, for every filter and in the total', async () => {
        await admit({ promptId: 'e', owner: 'ann', workflowId: 'flow' })
        expect(await list({ statuses: ['queued'] })).toEqual([['b', 'e'], 2])
        expect(await store.prompts.cancelQueued('e', 'deleted')).toMatchObject({ listed: false })
        expect(await list({})).toEqual([['a', 'b', 'c', 'd'], 4])
        expect(await list({ statuses: ['queued', 'cancelled'] })).toEqual([['b'], 1])
        expect(await list({ owner: 'ann', sortBy: 'execution_duration' })).toEqual([['b', 'c'], 2])
        expect(await list({ workflowId: 'flow' })).toEqual([['a', 'c'], 2])
        expect(await store.prompts.get('e')).toMatchObject({ status: 'cancelled', listed: false })
      })

      it('leaves out what ended without a history entry, but not what was cancelled with one', async () => {
        const cancelled = anOutcome({ status: 'cancelled' })
        await run({ promptId: 'e' }, { ...cancelled, history: undefined })
        await run({ promptId: 'f' }, cancelled)
        expect(await list({ statuses: ['cancelled'] })).toEqual([['f'], 1])
        expect(await store.prompts.get('e')).toMatchObject({ status: 'cancelled', listed: false })
      })

      it('leaves out those whose history entry was deleted, and keeps another owner’s and the unfinished', async () => {
        await store.prompts.deleteHistory({ promptIds: ['a', 'b', 'c', 'd'], owner: 'ann' })
        expect(await list({})).toEqual([['a', 'b', 'd'], 3])
        await store.prompts.deleteHistory({ promptIds: ['a', 'b', 'd'], owner: undefined })
        expect(await list({})).toEqual([['b', 'd'], 2])
        await store.prompts.finish({ promptId: 'd', number: 1 }, anOutcome(), 'done')
        expect(await list({})).toEqual([['b', 'd'], 2])
        expect(await store.prompts.get('a')).toMatchObject({ status: 'succeeded', listed: false })
      })

      it('leaves out what its caller cleared, and lists what of it ends later', async () => {
        await run({ promptId: 'e', caller: '10.0.0.9' })
        await store.prompts.clearHistory({ caller: '127.0.0.1' })
        expect(await list({})).toEqual([['b', 'd', 'e'], 3])
        await store.prompts.finish({ promptId: 'd', number: 1 }, anOutcome(), 'done')
        expect(await list({ statuses: ['succeeded'] })).toEqual([['d', 'e'], 2])
      })

      it('does not list what lost its history entry while it was admitting', async () => {
        await run({ promptId: 'e', admitted: false })
        await store.prompts.deleteHistory({ promptIds: ['e'], owner: undefined })
        await store.prompts.publish('e')
        expect(await list({})).toEqual([['a', 'b', 'c', 'd'], 4])
      })

      it('lists an id again that is admitted anew', async () => {
        await store.prompts.deleteHistory({ promptIds: ['a'], owner: undefined })
        await store.prompts.cancelQueued('b', 'deleted')
        expect((await admit({ promptId: 'a' })).kind).toBe('known')
        expect(await list({})).toEqual([['c', 'd'], 2])
        await advance(window.idempotencyMs)
        await admit({ promptId: 'b', owner: 'ann' })
        await run({ promptId: 'a' })
        expect(await list({})).toEqual([['c', 'd', 'b', 'a'], 4])
      })
    })

    describe('files', () => {
      it('finds the newest of a name exactly and by name alone', async () => {
        await run(
          { promptId: 'a' },
          anOutcome({ files: [aFile({ token: 't1' }), aFile({ token: 't2', workerId: 'w2' })] }),
        )
        await run({ promptId: 'b', owner: 'ann' }, anOutcome({ files: [aFile({ token: 't1', subfolder: 'sub' })] }))
        await run({ promptId: 'c' }, anOutcome({ files: [aFile({ token: 't1' }), aFile({ type: 'temp' })] }))

        expect(await store.prompts.findFile(aFile({ token: 't1' }))).toMatchObject({ promptId: 'c', type: 'output' })
        expect(await store.prompts.findFile(aFile({ token: 't2' }))).toMatchObject({ promptId: 'a', workerId: 'w2' })
        expect(await store.prompts.findFile(aFile({ token: 't3' }))).toBeUndefined()
        expect(await store.prompts.findFile(aFile({ filename: 'comfyui_00001_.png' }))).toBeUndefined()

        const named = { type: 'output' as const, filename: aFile().filename }
        const by = (query: { owner?: string; promptId?: string; subfolder?: string }) =>
          store.prompts.findFileByName({
            ...named,
            owner: query.owner ?? undefined,
            promptId: query.promptId ?? undefined,
            subfolder: query.subfolder ?? undefined,
          })
        expect(await by({})).toMatchObject({ promptId: 'c' })
        expect(await by({ owner: 'ann' })).toMatchObject({ promptId: 'b', subfolder: 'sub', owner: 'ann' })
        expect(await by({ owner: 'ann', subfolder: '' })).toBeUndefined()
        expect(await by({ subfolder: 'sub' })).toMatchObject({ promptId: 'b' })
        expect(await by({ promptId: 'a' })).toMatchObject({ token: 't2' })
        expect(await by({ promptId: 'a', owner: 'ann' })).toBeUndefined()
        expect(await by({ owner: '' })).toBeUndefined()
      })

      it('finds names of any length, and keeps them apart', async () => {
        const names = ['one', 'two'].map((end) => `${'long '.repeat(200)}${end}.png`)
        await run({ promptId: 'a' }, anOutcome({ files: names.map((filename) => aFile({ filename })) }))
        for (const filename of names) {
          expect(await store.prompts.findFile(aFile({ filename }))).toMatchObject({ promptId: 'a', filename })
        }
        expect(await store.prompts.findFile(aFile({ filename: `${names[0]}x` }))).toBeUndefined()
        const newest = await store.prompts.newestFiles({ owner: 'open', type: 'output', limit: 9 })
        expect(newest.map(({ filename }) => filename)).toEqual(names.toReversed())
      })

      it('finds the newest of a worker under any of its tokens', async () => {
        const of = (token: string, workerId: string) => ({ files: [aFile({ token, workerId })] })
        await run({ promptId: 'a' }, anOutcome(of('disk one', 'w1')))
        await run({ promptId: 'b' }, anOutcome(of('disk two', 'w1')))
        await run({ promptId: 'c' }, anOutcome(of('disk three', 'w2')))
        expect(await store.prompts.newestOnWorker(aFile({ workerId: 'w1' }))).toMatchObject({ token: 'disk two' })
        expect(await store.prompts.newestOnWorker(aFile({ workerId: 'w2' }))).toMatchObject({ promptId: 'c' })
        expect(await store.prompts.newestOnWorker(aFile({ workerId: 'w3' }))).toBeUndefined()
        expect(await store.prompts.newestOnWorker(aFile({ workerId: 'w1', subfolder: 's' }))).toBeUndefined()
        expect(await store.prompts.newestOnWorker(aFile({ workerId: 'w1', type: 'temp' }))).toBeUndefined()
      })

      it('lists the newest of an owner', async () => {
        const of = (...names: string[]) => ({ files: names.map((filename) => aFile({ filename })) })
        await run({ promptId: 'a' }, anOutcome(of('1.png', '2.png')))
        await run({ promptId: 'b', owner: 'ann' }, anOutcome(of('3.png')))
        await run({ promptId: 'c' }, anOutcome({ files: [aFile({ filename: '1.png' }), aFile({ type: 'temp' })] }))
        const list = async (owner: string, type: 'output' | 'temp', limit: number) =>
          (await store.prompts.newestFiles({ owner, type, limit })).map(({ promptId, filename }) => promptId + filename)
        expect(await list('open', 'output', 10)).toEqual(['c1.png', 'a2.png', 'a1.png'])
        expect(await list('open', 'output', 2)).toEqual(['c1.png', 'a2.png'])
        expect(await list('ann', 'output', 10)).toEqual(['b3.png'])
        expect(await list('ann', 'temp', 10)).toEqual([])
      })

      it('numbers files in the order of their announcement', async () => {
        const names = Array.from({ length: 1100 }, (_, at) => `${at}.png`)
        await run({ promptId: 'a' }, anOutcome({ files: names.map((filename) => aFile({ filename })) }))
        const found = await Promise.all(names.map((filename) => store.prompts.findFile(aFile({ filename }))))
        const sequences = found.map((file) => file?.sequence ?? -1)
        expect(sequences).toEqual(sequences.toSorted((a, b) => a - b))
        expect(new Set(sequences).size).toBe(1100)
      })
    })

    describe('logs', () => {
      it('keeps the newest lines', async () => {
        await admit({ promptId: 'a' })
        const texts = Array.from({ length: maxLogLines + 5 }, (_, at) => `line ${at}`)
        for (const text of texts) await store.prompts.log('a', text)
        const lines = await store.prompts.logOf('a')
        expect(lines.map((line) => line.text)).toEqual(texts.slice(5))
        expect(lines[0]?.at).toEqual(expect.any(Number))
      })

      it('ignores a prompt that it does not know', async () => {
        await store.prompts.log('unknown', 'x')
        expect(await store.prompts.logOf('unknown')).toEqual([])
      })
    })

    describe('terminal messages', () => {
      it('names those that ended lately, untold, with a client and a history', async () => {
        await run({ promptId: 'long ago', clientId: 'c' })
        await advance(1000)
        await admit({ promptId: 'waiting', clientId: 'c' })
        await admit({ promptId: 'later', clientId: 'c' })
        await run({ promptId: 'sooner', clientId: 'c' })
        await run({ promptId: 'nobody' })
        await run({ promptId: 'silent', clientId: 'c' }, anOutcome({ history: undefined }))
        await run({ promptId: 'told', clientId: 'c' })
        await store.prompts.finish(await start('later'), anOutcome(), 'done')
        await store.prompts.markTold(['told', 'unknown'])
        await store.prompts.markTold([])
        const untold = await store.prompts.untold(1000)
        expect(ids(untold)).toEqual(['sooner', 'later'])
        expect(untold[0]).toEqual(await store.prompts.get('sooner'))
        expect(await store.prompts.get('told')).toMatchObject({ told: true })
      })
    })

    describe('collections', () => {
      it('gives back what was put, with a version', async () => {
        const value = { a: [1, 2.5, null, true], 'ü\0': { nested: 'x\ud800' } }
        expect(await store.records.put('c', { id: 'r', value, index: 'i', dueAt: 5 })).toEqual({
          id: 'r',
          version: 1,
          value,
          index: 'i',
          dueAt: 5,
        })
        expect(await store.records.get('c', 'r')).toMatchObject({ version: 1, value })
        expect(await store.records.put('c', { id: 'r', value: null })).toEqual({
          id: 'r',
          version: 2,
          value: null,
          index: undefined,
          dueAt: undefined,
        })
        expect(await store.records.get('c', 'other')).toBeUndefined()
        expect(await store.records.get('other', 'r')).toBeUndefined()
      })

      it('does not change what is stored when a value is changed later', async () => {
        const value = { list: [1] }
        await store.records.put('c', { id: 'r', value })
        value.list.push(2)
        expect(await store.records.get('c', 'r')).toMatchObject({ value: { list: [1] } })
      })

      it('writes only when the version fits', async () => {
        expect(await store.records.put('c', { id: 'r', value: 1 }, { ifVersion: 1 })).toBeUndefined()
        expect(await store.records.put('c', { id: 'r', value: 1 }, { ifVersion: 0 })).toMatchObject({ version: 1 })
        expect(await store.records.put('c', { id: 'r', value: 2 }, { ifVersion: 0 })).toBeUndefined()
        const both = await Promise.all([
          store.records.put('c', { id: 'r', value: 3 }, { ifVersion: 1 }),
          store.records.put('c', { id: 'r', value: 4 }, { ifVersion: 1 }),
        ])
        expect(both.filter((record) => record !== undefined)).toHaveLength(1)
        expect((await store.records.get('c', 'r'))?.version).toBe(2)
      })

      it('deletes, and starts again at version 1', async () => {
        await store.records.put('c', { id: 'r', value: 1 })
        await store.records.put('c', { id: 'r', value: 1 })
        expect(await store.records.delete('c', 'r')).toBe(true)
        expect(await store.records.delete('c', 'r')).toBe(false)
        expect(await store.records.put('c', { id: 'r', value: 1 }, { ifVersion: 0 })).toMatchObject({ version: 1 })
      })

      it('lists by id, whole or by index', async () => {
        for (const [id, index] of [
          ['b', 'x'],
          ['\u{1f600}', 'x'],
          ['a', 'y'],
          ['\uff5e', 'x'],
          ['B', undefined],
        ] as const) {
          await store.records.put('c', { id, value: id, index })
        }
        await store.records.put('other', { id: 'a', value: 1, index: 'x' })
        const listed = async (query?: { index?: string }) =>
          (await store.records.list('c', query)).map((record) => record.id)
        expect(await listed()).toEqual(['B', 'a', 'b', '\u{1f600}', '\uff5e'])
        expect(await listed({ index: 'x' })).toEqual(['b', '\u{1f600}', '\uff5e'])
        expect(await listed({ index: 'z' })).toEqual([])
      })

      it('names what is due, soonest first', async () => {
        const { prompt } = await admit({ promptId: 'clock' })
        const now = prompt.createdAt
        for (const [id, at] of [
          ['late', 1000],
          ['b', 0],
          ['a', 0],
          ['first', -5],
        ] as const) {
          await store.records.put('c', { id, value: 1, dueAt: now + at })
        }
        await store.records.put('c', { id: 'never', value: 1 })
        const due = async (limit: number) => (await store.records.due('c', limit)).map((record) => record.id)
        expect(await due(10)).toEqual(['first', 'a', 'b'])
        expect(await due(2)).toEqual(['first', 'a'])
        await advance(1000)
        expect(await due(10)).toEqual(['first', 'a', 'b', 'late'])
      })
    })

    describe('leases', () => {
      const acquire = (holder: string, name = 'lead') => store.leases.acquire({ name, holder, ttlMs: 100 })

      it('has one holder at a time', async () => {
        const taken = await Promise.all([acquire('one'), acquire('two'), acquire('three')])
        expect(taken.filter((lease) => lease !== undefined)).toHaveLength(1)
      })

      it('renews for its holder with the same fence', async () => {
        const first = await acquire('one')
        await advance(99)
        expect(await acquire('one')).toEqual(first)
        await advance(99)
        expect(await acquire('two')).toBeUndefined()
      })

      it('goes to another when it has expired, with a higher fence', async () => {
        const first = await acquire('one')
        await advance(100)
        const second = await acquire('two')
        expect(second?.holder).toBe('two')
        expect(second?.fence).toBeGreaterThan(first?.fence ?? Number.POSITIVE_INFINITY)
        expect(await acquire('one')).toBeUndefined()
      })

      it('is free at once when its holder gives it up, and only then', async () => {
        const first = await acquire('one')
        await store.leases.release({ name: 'lead', holder: 'two' })
        expect(await acquire('two')).toBeUndefined()
        await store.leases.release({ name: 'lead', holder: 'one' })
        expect((await acquire('two'))?.fence).toBeGreaterThan(first?.fence ?? Number.POSITIVE_INFINITY)
      })

      it('is held by name', async () => {
        expect(await acquire('one', 'lead')).toBeDefined()
        expect(await acquire('two', 'other')).toMatchObject({ holder: 'two' })
      })

      it('gives a fence above every claim so far', async () => {
        await admit({ promptId: 'a' })
        await start('a', 'w1', 41)
        expect((await acquire('one'))?.fence).toBeGreaterThan(41)
      })
    })

    it('finishes what was called before it closes, and refuses what comes later', async () => {
      const under = admit({ promptId: 'a' })
      const closing = store.close()
      expect((await under).kind).toBe('admitted')
      await expect(admit({ promptId: 'b' })).rejects.toBeInstanceOf(StoreUnavailableError)
      await closing
      await expect(store.prompts.get('a')).rejects.toBeInstanceOf(StoreUnavailableError)
      await expect(store.records.get('c', 'a')).rejects.toBeInstanceOf(StoreUnavailableError)
      const late = store.leases.acquire({ name: 'x', holder: 'y', ttlMs: 1 })
      await expect(late).rejects.toBeInstanceOf(StoreUnavailableError)
      await store.close()
    })
  })
}
