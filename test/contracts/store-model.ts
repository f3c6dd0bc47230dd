import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createMemoryStore } from '../../src/store/memory/memory.ts'
import type { Store } from '../../src/store/store.ts'
import { createClock } from '../support/clock.ts'
import { aFile, anOutcome, aPrompt } from '../support/prompts.ts'

interface Step {
  words: string
  call(store: Store): Promise<unknown>
}

const promptId = fc.constantFrom('a', 'b', 'c', 'd\0', 'd\ud800')
const owner = fc.constantFrom('ann', 'bob')
const anyOwner = fc.option(owner, { nil: undefined })
const workflowId = fc.option(fc.constantFrom('f', 'g'), { nil: undefined })
const name = fc.record({
  token: fc.constantFrom('t', 'u'),
  type: fc.constantFrom('output' as const, 'temp' as const),
  subfolder: fc.constantFrom('', 's'),
  filename: fc.constantFrom('x.png', 'y.png'),
})
const attempt = fc.record({ promptId, number: fc.integer({ min: 0, max: 3 }), workerId: fc.constant('w') })
const status = fc.constantFrom(
  'queued' as const,
  'dispatching' as const,
  'running' as const,
  'succeeded' as const,
  'failed' as const,
  'cancelled' as const,
)
const recordId = fc.constantFrom('r', 's', 'R')
const index = fc.option(fc.constantFrom('i', 'j'), { nil: undefined })
const small = fc.integer({ min: 0, max: 4 })
const maybeSmall = fc.option(small, { nil: undefined })
const anySmall = fc.option(fc.integer({ min: -1, max: 4 }), { nil: undefined })

const step = <T>(verb: string, given: fc.Arbitrary<T>, call: (store: Store, given: T) => Promise<unknown>) =>
  given.map((value): Step => ({ words: `${verb} ${fc.stringify(value)}`, call: (store) => call(store, value) }))

const steps = fc.oneof(
  {
    weight: 8,
    arbitrary: step(
      'admit',
      fc.record({
        promptId,
        owner: fc.oneof({ weight: 9, arbitrary: fc.constant('ann') }, owner),
        caller: fc.constantFrom('k', 'l'),
        clientId: fc.option(fc.constant('c'), { nil: undefined }),
        admitted: fc.boolean(),
        workflowId,
        bodyHash: fc.constantFrom('h', 'h', 'i'),
        order: fc.oneof(fc.constantFrom(undefined, 'front' as const, -0, 0.5), fc.double({ noNaN: true })),
        body: fc.record({ text: fc.string({ unit: 'binary' }), sealed: fc.option(fc.string(), { nil: undefined }) }),
      }),
      (store, given) => store.prompts.admit(aPrompt(given), { idempotencyMs: 100 }),
    ),
  },
  step('publish', promptId, (store, id) => store.prompts.publish(id)),
  step('discard', promptId, (store, id) => store.prompts.discard(id)),
  {
    weight: 8,
    arbitrary: step(
      'startAttempt',
      fc.record({ promptId, workerId: fc.constantFrom('w', 'v'), fence: small, log: fc.constant('claimed') }),
      (store, claim) => store.prompts.startAttempt(claim),
    ),
  },
  { weight: 4, arbitrary: step('markRunning', attempt, (store, given) => store.prompts.markRunning(given)) },
  {
    weight: 3,
    arbitrary: step(
      'requeue',
      fc.tuple(attempt, fc.record({ sent: fc.boolean(), workerDied: fc.boolean(), log: fc.constant('again') })),
      (store, [given, why]) => store.prompts.requeue(given, why),
    ),
  },
  {
    weight: 8,
    arbitrary: step(
      'finish',
      fc.tuple(
        attempt,
        fc.record({
          status: fc.constantFrom('succeeded' as const, 'failed' as const, 'cancelled' as const),
          history: fc.option(fc.string({ unit: 'binary' }), { nil: undefined }),
          summary: fc.option(fc.string(), { nil: undefined }),
          files: fc.array(name.map(aFile), { maxLength: 3 }),
        }),
      ),
      (store, [given, outcome]) => store.prompts.finish(given, anOutcome(outcome), 'ended'),
    ),
  },
  { weight: 2, arbitrary: step('cancelQueued', promptId, (store, id) => store.prompts.cancelQueued(id, 'cancelled')) },
  step('getByGatewayJobId', promptId, (store, id) => store.prompts.getByGatewayJobId(`job-${id}`)),
  step('readBodies', fc.array(promptId), (store, given) => store.prompts.readBodies(given)),
  {
    weight: 3,
    arbitrary: step(
      'list',
      fc.record({
        owner: anyOwner,
        statuses: fc.array(status, { maxLength: 3 }),
        workflowId,
        sortBy: fc.constantFrom('created_at' as const, 'execution_duration' as const),
        descending: fc.boolean(),
        limit: fc.option(small, { nil: undefined }),
        offset: small,
      }),
      (store, query) => store.prompts.list(query),
    ),
  },
  {
    weight: 3,
    arbitrary: step('history', fc.record({ owner: anyOwner, maxItems: anySmall, offset: anySmall }), (store, query) =>
      store.prompts.history(query),
    ),
  },
  step('deleteHistory', fc.record({ promptIds: fc.array(promptId), owner: anyOwner }), (store, query) =>
    store.prompts.deleteHistory(query),
  ),
  step('clearHistory', fc.record({ caller: fc.constantFrom('k', 'l') }), (store, query) =>
    store.prompts.clearHistory(query),
  ),
  step('prune', fc.record({ maxEntries: maybeSmall, maxAgeMs: maybeSmall }), (store, limits) =>
    store.prompts.prune(limits),
  ),
  { weight: 2, arbitrary: step('findFile', name, (store, given) => store.prompts.findFile(given)) },
  {
    weight: 2,
    arbitrary: step(
      'findFileByName',
      fc.tuple(name, anyOwner, fc.option(promptId, { nil: undefined }), fc.boolean()),
      (store, [{ type, filename, subfolder }, by, id, anywhere]) =>
        store.prompts.findFileByName({
          type,
          filename,
          owner: by,
          promptId: id,
          subfolder: anywhere ? undefined : subfolder,
        }),
    ),
  },
  step('newestFiles', fc.tuple(name, anyOwner, small), (store, [{ type }, by, limit]) =>
    store.prompts.newestFiles({ owner: by ?? 'open', type, limit }),
  ),
  step('newestOnWorker', name, (store, given) => store.prompts.newestOnWorker({ ...given, workerId: 'w1' })),
  step('log', fc.tuple(promptId, fc.string()), (store, [id, text]) => store.prompts.log(id, text)),
  step('markTold', fc.array(promptId, { maxLength: 2 }), (store, given) => store.prompts.markTold(given)),
  step('untold', fc.constantFrom(1, 100, 1000), (store, withinMs) => store.prompts.untold(withinMs)),
  {
    weight: 3,
    arbitrary: step(
      'put',
      fc.record({
        id: recordId,
        value: fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value))),
        index,
        dueAt: fc.option(
          small.map((n) => n + 1_700_000_000_000),
          { nil: undefined },
        ),
      }),
      (store, record) => store.records.put('c', record),
    ),
  },
  step('putIf', fc.tuple(recordId, small), (store, [id, ifVersion]) =>
    store.records.put('c', { id, value: null }, { ifVersion }),
  ),
  step('delete', recordId, (store, id) => store.records.delete('c', id)),
  step('due', small, (store, limit) => store.records.due('c', limit)),
  step('listRecords', index, (store, by) => store.records.list('c', by === undefined ? {} : { index: by })),
  step(
    'acquire',
    fc.record({ name: fc.constantFrom('l', 'm'), holder: fc.constantFrom('1', '2'), ttlMs: fc.constantFrom(1, 100) }),
    (store, lease) => store.leases.acquire(lease),
  ),
  step('release', fc.record({ name: fc.constantFrom('l', 'm'), holder: fc.constantFrom('1', '2') }), (store, lease) =>
    store.leases.release(lease),
  ),
)

/** Everything that can be asked for, to compare two stores as a whole. */
async function everything(store: Store): Promise<unknown> {
  const { prompts } = await store.prompts.list({
    owner: undefined,
    statuses: [],
    workflowId: undefined,
    sortBy: 'created_at',
    descending: false,
    limit: undefined,
    offset: 0,
  })
  const ids = ['a', 'b', 'c', 'd\0', 'd\ud800']
  return {
    prompts,
    unfinished: await store.prompts.unfinished(),
    records: await Promise.all(ids.map((id) => store.prompts.get(id))),
    bodies: await Promise.all(ids.map((id) => store.prompts.readBody(id))),
    logs: await Promise.all(ids.map((id) => store.prompts.logOf(id))),
    entries: await Promise.all(ids.map((id) => store.prompts.historyEntry(id))),
    history: await store.prompts.history({ owner: undefined, maxItems: undefined, offset: undefined }),
    collection: await store.records.list('c'),
  }
}

/** Errors become their names. Pruning goes in steps, so its group goes one after the other. */
async function callAll(store: Store, group: readonly Step[], inOneTurn: boolean): Promise<unknown[]> {
  const call = (one: Step) => one.call(store).catch((error: Error) => error.name)
  if (inOneTurn && !group.some((one) => one.words.startsWith('prune'))) return Promise.all(group.map(call))
  const answers: unknown[] = []
  for (const one of group) answers.push(await call(one))
  return answers
}

/**
 * Compares a store with the one in memory, whatever is asked. `open` gives an empty one with this clock each time. With
 * `isOrdered` a group of verbs is called in one turn; a store that does not keep the order of calls gets them one by one.
 */
export function storeModel(
  name: string,
  open: (now: () => number) => Promise<Store>,
  { isOrdered = true, runs = 60 }: { isOrdered?: boolean; runs?: number } = {},
): void {
  it(`gives the same answers from memory and from ${name}, whatever is asked`, { timeout: 120_000 }, async () => {
    const groups = fc.array(
      fc.tuple(fc.array(steps, { minLength: 1, maxLength: 6 }), fc.constantFrom(0, 0, 1, 50, 100)),
      { minLength: 10, maxLength: 40, size: 'max' },
    )
    await fc.assert(
      fc.asyncProperty(groups, async (run) => {
        const clock = createClock()
        const memory = createMemoryStore({ now: clock.now })
        const store = await open(clock.now)
        try {
          for (const [group, ms] of run) {
            const words = group.map((one) => one.words)
            expect({ words, answers: await callAll(store, group, isOrdered) }).toEqual({
              words,
              answers: await callAll(memory, group, isOrdered),
            })
            await clock.advance(ms)
          }
          expect(await everything(store)).toEqual(await everything(memory))
        } finally {
          await store.close()
        }
      }),
      { numRuns: runs },
    )
  })
}
