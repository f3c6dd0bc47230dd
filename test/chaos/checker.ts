import { checkSocket, type SocketFindings } from './check-socket.ts'
import { type ChaosRecord, type Death, fileName, type HistoryEntry, type Run, type Submission } from './record.ts'

export type Rule =
  /** A 200, and no end in history. */
  | 'lost'
  /** It ended otherwise than its graph and the faults make it. */
  | 'outcome'
  /** Its client did not get its end, or got it twice on one socket. */
  | 'told'
  /** Frames of one prompt out of order, or among those of another. */
  | 'order'
  /** Socket and history do not say the same. */
  | 'disagreement'
  /** It ran again, and no death of its worker explains that. */
  | 'repeat'
  | 'attempts'
  | 'picture'
  /** A submission was refused, or hung. */
  | 'refused'
  /** A process ended by itself. */
  | 'crash'

export interface Violation {
  rule: Rule
  text: string
}

export interface Figures {
  submissions: number
  accepted: number
  /** Sent without an id of their own when the connection broke: their client cannot know what became of them. */
  abandoned: number
  repeatedPosts: number
  lost: number
  toldAll: number
  /** Told on one socket again, since they were submitted again. */
  toldAgain: number
  /** Told on more than one socket: before the gateway was killed, and for safety afterwards. */
  toldOnSeveral: number
  sockets: number
  runs: number
  extraRuns: number
  mostRunsOfOne: number
  /** From the death of a worker until what it ran had started elsewhere, the longest; ms. */
  slowestRepeatMs: number
  succeeded: number
  failedAsTold: number
  /** Ended by the gateway for a documented reason, by that reason. */
  givenUp: Readonly<Record<string, number>>
  picturesRight: number
  workerDeaths: number
  gatewayDeaths: number
}

export interface ChaosVerdict {
  violations: readonly Violation[]
  figures: Figures
}

const MAX_ATTEMPTS = 3
const MAX_WORKER_DEATHS = 2
/** No answer within this is a hang; ms. */
const HANG_MS = 15_000

/** Holds what was seen against what is promised. Knows the contract, and nothing of how the gateway works. */
export function checkChaos(record: ChaosRecord): ChaosVerdict {
  const violations: Violation[] = record.surprises.map((text) => ({ rule: 'crash', text }))
  const note = (rule: Rule, text: string): void => void violations.push({ rule, text })
  const sockets = record.sockets.map((socket) => checkSocket(socket, record.submissions, note))
  const runs = runsByColour(record.runs, note)
  const accepted = record.submissions.filter(({ promptId }) => promptId !== undefined)
  const givenUp: Record<string, number> = {}
  let [lost, toldAll, toldOnSeveral, succeeded, failedAsTold, picturesRight] = [0, 0, 0, 0, 0, 0]

  for (const submission of record.submissions) checkPosts(submission, record.deaths, note)
  for (const submission of accepted) {
    const name = nameOf(submission)
    const told = tellingsOf(submission, record, sockets)
    if (told.types.length > 0 && told.isClosed) toldAll++
    else note('told', `${name}: ${told.types.length === 0 ? 'no terminal message' : 'no last message'} on any socket`)

    const entry = record.histories.get(submission.promptId ?? '')
    const end = entry && endOf(entry)
    if (!entry || end === undefined) {
      lost++
      note(
        'lost',
        `${name}: ${entry ? `history has it without an end: ${JSON.stringify(entry.status)}` : 'not in history'}`,
      )
      continue
    }
    if (told.types.length > 1) toldOnSeveral++
    for (const type of told.types) {
      if (type !== end.type) note('disagreement', `${name}: the socket said ${type}, history says ${end.type}`)
    }
    const own = runs.get(submission.colour) ?? []
    const isGivenUp = checkGivenUp(name, submission, end, own, record.deaths, note)
    if (isGivenUp) givenUp[end.reason] = (givenUp[end.reason] ?? 0) + 1
    else if (submission.fails && end.type === 'execution_error') failedAsTold++
    else if (!submission.fails && end.type === 'execution_success') {
      succeeded++
      if (checkPictures(name, submission, entry, record, told.files, note)) picturesRight++
    } else note('outcome', `${name}: ended with ${end.type} ${end.reason}`)
  }
  let extraRuns = 0
  let mostRunsOfOne = 0
  let slowestRepeatMs = 0
  for (const [colour, own] of runs) {
    extraRuns += own.length - 1
    mostRunsOfOne = Math.max(mostRunsOfOne, own.length)
    slowestRepeatMs = Math.max(slowestRepeatMs, checkRepeats(colour, own, record.deaths, note))
  }
  return {
    violations,
    figures: {
      submissions: record.submissions.length,
      accepted: accepted.length,
      abandoned: record.submissions.length - accepted.length,
      repeatedPosts: record.submissions.reduce((sum, { posts }) => sum + Math.max(0, posts.length - 1), 0),
      lost,
      toldAll,
      toldAgain: sockets.reduce((sum, { toldAgain }) => sum + toldAgain, 0),
      toldOnSeveral,
      sockets: record.sockets.length,
      runs: record.runs.length,
      extraRuns,
      mostRunsOfOne,
      slowestRepeatMs,
      succeeded,
      failedAsTold,
      givenUp,
      picturesRight,
      workerDeaths: record.deaths.filter(({ kind }) => kind === 'worker').length,
      gatewayDeaths: record.deaths.filter(({ kind }) => kind === 'gateway').length,
    },
  }
}

type Note = (rule: Rule, text: string) => void

const nameOf = ({ promptId, clientId }: Submission): string => `${promptId ?? '(no id)'} of ${clientId}`

function runsByColour(runs: readonly Run[], note: Note): Map<number, Run[]> {
  const byColour = new Map<number, Run[]>()
  for (const run of runs.toSorted((a, b) => a.startedAt - b.startedAt)) {
    if (run.colour === undefined) {
      note('repeat', `${run.worker} ran a prompt that nobody submitted`)
      continue
    }
    const own = byColour.get(run.colour)
    if (own) own.push(run)
    else byColour.set(run.colour, [run])
  }
  return byColour
}

/** A repeat is explained when the worker of the run before died between the two starts. Gives the longest wait after that. */
function checkRepeats(colour: number, runs: readonly Run[], deaths: readonly Death[], note: Note): number {
  if (runs.length > MAX_ATTEMPTS) note('attempts', `colour ${colour} ran ${runs.length} times`)
  let slowestMs = 0
  for (const [index, run] of runs.entries()) {
    const next = runs[index + 1]
    if (!next) continue
    const death = deaths.find(
      ({ kind, name, killedAt, diedAt }) =>
        kind === 'worker' && name === run.worker && diedAt >= run.startedAt && killedAt <= next.startedAt,
    )
    if (death) {
      slowestMs = Math.max(slowestMs, next.startedAt - death.diedAt)
      continue
    }
    note(
      'repeat',
      `colour ${colour} started on ${run.worker} at ${run.startedAt} (${run.outcome} at ${run.endedAt}) and again on ` +
        `${next.worker} at ${next.startedAt}`,
    )
  }
  return slowestMs
}

function checkPosts(submission: Submission, deaths: readonly Death[], note: Note): void {
  for (const { sentAt, endedAt, status, refusal } of submission.posts) {
    const isCut = deaths.some(({ kind, killedAt }) => kind === 'gateway' && killedAt >= sentAt && killedAt <= endedAt)
    if (status !== undefined && status !== 200 && status !== 503) {
      note('refused', `${nameOf(submission)}: ${status} ${refusal}`)
    } else if (endedAt - sentAt > HANG_MS && !isCut) {
      note('refused', `${nameOf(submission)}: no answer for ${endedAt - sentAt} ms`)
    }
  }
}

interface Tellings {
  /** Terminal messages on all sockets of the client. */
  types: readonly string[]
  isClosed: boolean
  /** Files of the newest `executed`. */
  files: readonly string[] | undefined
}

function tellingsOf(
  { clientId, promptId }: Submission,
  record: ChaosRecord,
  findings: readonly SocketFindings[],
): Tellings {
  const types: string[] = []
  let isClosed = false
  let files: readonly string[] | undefined
  for (const [index, socket] of record.sockets.entries()) {
    if (socket.clientId !== clientId || promptId === undefined) continue
    const found = findings[index]
    types.push(...(found?.terminals.get(promptId) ?? []))
    isClosed ||= found?.closed.has(promptId) ?? false
    files = found?.files.get(promptId) ?? files
  }
  return { types, isClosed, files }
}

interface End {
  type: string
  /** `exception_type` of an error. */
  reason: string
}

/** How history says that it ended; undefined when it does not. */
function endOf({ status }: HistoryEntry): End | undefined {
  const last = status.messages.at(-1)
  const reason = String(last?.[1].exception_type ?? '')
  if (status.status_str === 'success' && status.completed) return { type: 'execution_success', reason }
  if (status.status_str !== 'error' || status.completed || last === undefined) return undefined
  return last[0] === 'execution_error' || last[0] === 'execution_interrupted' ? { type: last[0], reason } : undefined
}

/** True when the gateway ended it for a documented reason; then the faults must bear that out. */
function checkGivenUp(
  name: string,
  { posts }: Submission,
  end: End,
  runs: readonly Run[],
  deaths: readonly Death[],
  note: Note,
): boolean {
  if (end.reason === 'worker_crashed') {
    const killed = runs.filter(({ outcome }) => outcome === 'killed').length
    if (killed < MAX_WORKER_DEATHS) note('outcome', `${name}: worker_crashed, but ${killed} of its runs were killed`)
    return true
  }
  if (end.reason === 'too_many_attempts') {
    const since = posts[0]?.sentAt ?? 0
    const faults = deaths.filter(({ diedAt }) => diedAt >= since).length
    if (faults < MAX_ATTEMPTS)
      note('outcome', `${name}: too_many_attempts, but only ${faults} faults since it was sent`)
    return true
  }
  return false
}

/** True when each file in history is the picture that was ordered, and is the one that the socket named. */
function checkPictures(
  name: string,
  { promptId, colour, width, height }: Submission,
  entry: HistoryEntry,
  record: ChaosRecord,
  toldFiles: readonly string[] | undefined,
  note: Note,
): boolean {
  const files = Object.values(entry.outputs).flatMap(({ images }) => images ?? [])
  const names = files.map(fileName).join(', ')
  if (toldFiles?.join(', ') !== names) {
    note('disagreement', `${name}: the socket named ${toldFiles?.join(', ')}, history ${names}`)
  }
  const pictures = record.pictures.get(promptId ?? '') ?? []
  if (files.length !== 1 || pictures.length === 0) {
    note('picture', `${name}: ${files.length} files in history, ${pictures.length} answers`)
    return false
  }
  const wrong = pictures.find(
    ({ picture }) => picture?.colour !== colour || picture.width !== width || picture.height !== height,
  )
  if (!wrong) return true
  const wanted = JSON.stringify({ width, height, colour })
  note('picture', `${name}: ${wrong.url} gave ${wrong.status} ${JSON.stringify(wrong.picture)}, not ${wanted}`)
  return false
}
