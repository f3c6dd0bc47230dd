import { describe, expect, it } from 'vitest'
import { checkChaos, type Rule } from './checker.ts'
import type { ChaosRecord, Death, Frame, HistoryEntry, Post, Run, SocketRecord, Submission } from './record.ts'

const file = { filename: 'ComfyUI_00001_.png', subfolder: 'w1', type: 'output', url: '/api/view?a' }
const picture = { width: 4, height: 5, colour: 77 }
const post = (given: Partial<Post> = {}): Post => ({ sentAt: 1_000, endedAt: 1_010, status: 200, ...given })
const run = (given: Partial<Run> = {}): Run => ({
  worker: 'worker-1',
  colour: 77,
  startedAt: 1_020,
  endedAt: 1_100,
  outcome: 'success',
  ...given,
})
const death = (given: Partial<Death> = {}): Death => ({
  kind: 'worker',
  name: 'worker-1',
  killedAt: 1_050,
  diedAt: 1_052,
  ...given,
})
const submission = (given: Partial<Submission> = {}): Submission => ({
  ...{ clientId: 'c', ...picture, fails: false, promptId: 'p', posts: [post()] },
  ...given,
})

const frame = (type: string, promptId?: string, given: Partial<Frame> = {}): Frame => ({
  at: 1_200,
  type,
  promptId,
  ...given,
})
const ending = (type = 'execution_success', promptId = 'p'): Frame[] => [
  frame(type, promptId),
  frame('status'),
  frame('executing', promptId, { node: null }),
]
const frames = (promptId = 'p'): Frame[] => [
  frame('execution_start', promptId),
  frame('executing', promptId, { node: '2' }),
  frame('status'),
  frame('executed', promptId, { node: '2', files: ['w1/ComfyUI_00001_.png'] }),
  ...ending('execution_success', promptId),
]
const socket = (given: Partial<SocketRecord> = {}): SocketRecord => ({
  clientId: 'c',
  isReconnect: false,
  openedAt: 900,
  closedAt: undefined,
  frames: frames(),
  ...given,
})

const success: HistoryEntry = {
  outputs: { '2': { images: [file] } },
  status: { status_str: 'success', completed: true, messages: [['execution_success', {}]] },
}
const failure = (type: string): HistoryEntry => ({
  outputs: {},
  status: { status_str: 'error', completed: false, messages: [['execution_error', { exception_type: type }]] },
})

/** One prompt that went as it should, but for what the test names. */
function check(given: Partial<ChaosRecord> = {}) {
  const record: ChaosRecord = {
    submissions: [submission()],
    sockets: [socket()],
    runs: [run()],
    deaths: [],
    histories: new Map([['p', success]]),
    pictures: new Map([['p', [{ url: '/api/view?a', status: 200, picture }]]]),
    surprises: [],
    ...given,
  }
  return checkChaos(record)
}
const rules = (given: Partial<ChaosRecord>): Rule[] => check(given).violations.map(({ rule }) => rule)
const told = (...list: Frame[]): Partial<ChaosRecord> => ({ sockets: [socket({ frames: list })] })
const failing = (type: string, given: Partial<ChaosRecord>): Partial<ChaosRecord> => ({
  ...told(frame('execution_start', 'p'), ...ending('execution_error')),
  histories: new Map([['p', failure(type)]]),
  ...given,
})

describe('the checker', () => {
  it('has nothing to say of a prompt that ran, was told and has its picture', () => {
    const { violations, figures } = check()
    expect(violations).toEqual([])
    expect(figures).toMatchObject({
      accepted: 1,
      lost: 0,
      toldAll: 1,
      runs: 1,
      extraRuns: 0,
      succeeded: 1,
      picturesRight: 1,
    })
  })

  it('finds a prompt that is not in history, or is there without an end', () => {
    expect(rules({ histories: new Map() })).toEqual(['lost'])
    const endless: HistoryEntry = { outputs: {}, status: { status_str: 'success', completed: false, messages: [] } }
    expect(rules({ histories: new Map([['p', endless]]) })).toEqual(['lost'])
    expect(check({ histories: new Map() }).figures.lost).toBe(1)
  })

  it('finds a prompt that failed for no reason, or succeeded although its graph fails', () => {
    expect(rules(failing('RuntimeError', {}))).toEqual(['outcome'])
    expect(rules({ submissions: [submission({ fails: true })] })).toEqual(['outcome'])
    expect(rules(failing('RuntimeError', { submissions: [submission({ fails: true })] }))).toEqual([])
  })

  it('accepts that the gateway gives a prompt up only when there were faults enough', () => {
    const killed = [0, 1].map((n) =>
      run({ worker: `worker-${n}`, startedAt: 1_020 + n * 100, endedAt: undefined, outcome: 'killed' }),
    )
    const deaths = [0, 1].map((n) => death({ name: `worker-${n}`, killedAt: 1_050 + n * 100, diedAt: 1_051 + n * 100 }))
    expect(rules(failing('worker_crashed', { runs: killed, deaths }))).toEqual([])
    expect(rules(failing('worker_crashed', {}))).toEqual(['outcome'])
    expect(rules(failing('too_many_attempts', {}))).toEqual(['outcome'])
    expect(check(failing('worker_crashed', { runs: killed, deaths })).figures.givenUp).toEqual({ worker_crashed: 1 })
  })

  it('finds a client that was not told, or only in part', () => {
    expect(rules({ sockets: [] })).toContain('told')
    expect(rules({ sockets: [socket({ clientId: 'other' })] })).toContain('told')
    expect(rules({ sockets: [socket({ closedAt: 2_000, frames: frames().slice(0, -1) })] })).toEqual(['told'])
    expect(rules({ sockets: [socket({ closedAt: 2_000, frames: frames().slice(0, 4) })] })).toEqual(['told'])
  })

  it('takes all sockets of a client together', () => {
    const first = socket({ closedAt: 1_150, frames: frames().slice(0, 3) })
    const second = socket({ isReconnect: true, openedAt: 1_160 })
    expect(rules({ sockets: [first, second] })).toEqual([])
  })

  it('finds an end that comes twice on one socket, unless the prompt was submitted again meanwhile', () => {
    expect(rules(told(...frames(), ...frames()))).toEqual(['told'])
    const again = {
      ...told(...frames(), ...frames()),
      submissions: [submission({ posts: [post({ status: undefined }), post()] })],
    }
    expect(rules(again)).toEqual([])
    expect(check(again).figures.toldAgain).toBe(1)
    const before = { ...again, sockets: [socket({ openedAt: 1_500, frames: [...frames(), ...frames()] })] }
    expect(rules(before)).toEqual(['told'])
    expect(rules({ sockets: [socket({ closedAt: 1_400 }), socket({ isReconnect: true, openedAt: 1_500 })] })).toEqual(
      [],
    )
  })

  it('finds frames of another prompt in between', () => {
    const list = frames()
    list.splice(2, 0, frame('execution_start', 'q'))
    expect(rules(told(...list))).toContain('order')
  })

  it('finds a prompt that begins in the middle, but lets a later socket join it', () => {
    expect(rules(told(...frames().slice(1)))).toEqual(['order'])
    expect(rules({ sockets: [socket({ isReconnect: true, frames: frames().slice(1) })] })).toEqual([])
    const second = [...frames('q'), ...frames().slice(1)]
    expect(rules({ sockets: [socket({ isReconnect: true, frames: second })] })).toEqual(['order'])
  })

  it('allows a second start of the prompt that is open', () => {
    expect(rules(told(frame('execution_start', 'p'), ...frames()))).toEqual([])
  })

  it('finds a wrong order at the end, frames after it, and an end that is missing', () => {
    const head = frames().slice(0, 4)
    const [terminal, status, last] = ending() as [Frame, Frame, Frame]
    expect(rules(told(...head, terminal, last))).toEqual(['order'])
    expect(rules(told(...head, last, terminal, status))).toContain('order')
    expect(rules(told(...head, terminal, terminal, status, last))).toContain('order')
    expect(rules(told(...head, terminal, status, frame('progress', 'p'), last))).toContain('order')
    expect(rules(told(...frames(), frame('progress', 'p')))).toContain('order')
    expect(rules(told(...frames(), frame('execution_start', 'q')))).toEqual(['order'])
  })

  it('finds a socket that says another end or another file than history', () => {
    expect(rules(told(...frames().slice(0, 4), ...ending('execution_error')))).toEqual(['disagreement'])
    const other = { ...file, filename: 'ComfyUI_00002_.png' }
    const entry: HistoryEntry = { ...success, outputs: { '2': { images: [other] } } }
    expect(rules({ histories: new Map([['p', entry]]) })).toEqual(['disagreement'])
    expect(rules(told(frame('execution_start', 'p'), ...ending()))).toEqual(['disagreement'])
  })

  it('finds a second run that no death of its worker explains', () => {
    const runs = [
      run({ endedAt: undefined, outcome: 'killed' }),
      run({ worker: 'worker-2', startedAt: 1_200, endedAt: 1_300 }),
    ]
    expect(rules({ runs })).toEqual(['repeat'])
    expect(rules({ runs, deaths: [death()] })).toEqual([])
    expect(rules({ runs, deaths: [death({ name: 'worker-2' })] })).toEqual(['repeat'])
    expect(rules({ runs, deaths: [death({ kind: 'gateway', name: 'worker-1' })] })).toEqual(['repeat'])
    expect(rules({ runs, deaths: [death({ killedAt: 1_250, diedAt: 1_251 })] })).toEqual(['repeat'])
    expect(rules({ runs, deaths: [death({ killedAt: 1_010, diedAt: 1_011 })] })).toEqual(['repeat'])
    expect(check({ runs, deaths: [death()] }).figures).toMatchObject({
      extraRuns: 1,
      mostRunsOfOne: 2,
      slowestRepeatMs: 148,
    })
  })

  it('finds more than three runs, however well explained', () => {
    const runs = [0, 1, 2, 3].map((n) => run({ worker: `worker-${n}`, startedAt: 1_000 + n * 100 }))
    const deaths = [0, 1, 2].map((n) =>
      death({ name: `worker-${n}`, killedAt: 1_050 + n * 100, diedAt: 1_051 + n * 100 }),
    )
    expect(rules({ runs, deaths })).toEqual(['attempts'])
    expect(rules({ runs: runs.slice(1), deaths })).toEqual([])
  })

  it('finds a run of something that nobody submitted', () => {
    expect(rules({ runs: [run(), run({ colour: undefined })] })).toEqual(['repeat'])
  })

  it('finds a wrong picture, a missing one, and one that cannot be read', () => {
    const seen = (given: object) => ({ pictures: new Map([['p', [{ url: '/', status: 200, picture, ...given }]]]) })
    expect(rules(seen({ picture: { ...picture, colour: 78 } }))).toEqual(['picture'])
    expect(rules(seen({ picture: { ...picture, width: 5 } }))).toEqual(['picture'])
    expect(rules(seen({ status: 404, picture: undefined }))).toEqual(['picture'])
    expect(rules({ pictures: new Map() })).toEqual(['picture'])
    expect(check(seen({ status: 404, picture: undefined })).figures.picturesRight).toBe(0)
  })

  it('finds a submission that is refused or not answered, but not one that a dying gateway cut or put off', () => {
    const posted = (...posts: Post[]) => ({ submissions: [submission({ posts })] })
    expect(rules(posted(post({ status: 400, refusal: '{}' })))).toEqual(['refused'])
    expect(rules(posted(post({ status: undefined, endedAt: 21_001 })))).toEqual(['refused'])
    expect(rules(posted(post({ status: 503 }), post()))).toEqual([])
    const cut = death({ kind: 'gateway', name: 'gateway', killedAt: 1_005, diedAt: 1_006 })
    expect(rules({ ...posted(post({ status: undefined, endedAt: 21_001 }), post()), deaths: [cut] })).toEqual([])
  })

  it('asks nothing of a submission that has no id, but that it does not run twice for nothing', () => {
    const abandoned = submission({ colour: 78, promptId: undefined, posts: [post({ status: undefined })] })
    const submissions = [submission(), abandoned]
    expect(rules({ submissions })).toEqual([])
    expect(rules({ submissions, runs: [run(), run({ colour: 78 })] })).toEqual([])
    expect(rules({ submissions, runs: [run(), run({ colour: 78 }), run({ colour: 78 })] })).toEqual(['repeat'])
    expect(check({ submissions }).figures.abandoned).toBe(1)
  })

  it('reports a process that ended by itself', () => {
    expect(rules({ surprises: ['gateway ended by itself (1)'] })).toEqual(['crash'])
  })
})
