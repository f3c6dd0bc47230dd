import { type Frame, type SocketRecord, type Submission, TERMINAL_TYPES } from './record.ts'

/** What one socket told, by prompt id. */
export interface SocketFindings {
  terminals: ReadonlyMap<string, readonly string[]>
  /** Prompts whose `executing` null came. */
  closed: ReadonlySet<string>
  /** Names of files in the newest `executed`. */
  files: ReadonlyMap<string, readonly string[]>
  /** Ends that were told again because the prompt was submitted again. */
  toldAgain: number
}

/** The prompt of which frames come now. The last three frames are its end, the `status` behind it, and `executing` null. */
interface Open {
  promptId: string
  stage: 'running' | 'ended' | 'counted'
}

/** Reads the frames of one socket in their order: one prompt at a time, from `execution_start` to `executing` null. */
export function checkSocket(
  socket: SocketRecord,
  submissions: readonly Submission[],
  note: (rule: 'order' | 'told', text: string) => void,
): SocketFindings {
  const terminals = new Map<string, string[]>()
  const closed = new Set<string>()
  const files = new Map<string, readonly string[]>()
  let open: Open | undefined
  let isFirstPrompt = true
  const complain = (frame: Frame, what: string): void =>
    note('order', `${socket.clientId}, socket of ${socket.openedAt}: ${frame.type} of ${frame.promptId} ${what}`)

  for (const frame of socket.frames) {
    const { type, promptId } = frame
    if (promptId === undefined) {
      if (type === 'status' && open?.stage === 'ended') open.stage = 'counted'
      continue
    }
    if (open !== undefined && open.promptId !== promptId) {
      complain(frame, `among the frames of ${open.promptId}`)
      open = undefined
    }
    if (open === undefined) {
      // A socket that comes later may join in the middle of a prompt.
      const joins = socket.isReconnect && isFirstPrompt && !closed.has(promptId)
      if (type !== 'execution_start' && !joins) complain(frame, 'without execution_start')
      open = { promptId, stage: 'running' }
      isFirstPrompt = false
    }
    if (TERMINAL_TYPES.has(type)) {
      if (open.stage !== 'running') complain(frame, 'after its end')
      open.stage = 'ended'
      const types = terminals.get(promptId)
      if (types) types.push(type)
      else terminals.set(promptId, [type])
    } else if (type === 'executing' && frame.node === null) {
      if (open.stage !== 'counted') complain(frame, 'without its end and the count before it')
      closed.add(promptId)
      open = undefined
    } else if (open.stage !== 'running') complain(frame, 'after its end')
    if (type === 'executed' && frame.files && frame.files.length > 0) files.set(promptId, frame.files)
  }
  if (open !== undefined && socket.closedAt === undefined) {
    note('order', `${socket.clientId}, socket of ${socket.openedAt}: ${open.promptId} was left open`)
  }
  let toldAgain = 0
  for (const [promptId, types] of terminals) {
    const allowed = 1 + repeatsDuring(socket, submissions, promptId)
    if (types.length > allowed) {
      note(
        'told',
        `${socket.clientId}: the end of ${promptId} came ${types.length} times on the socket of ${socket.openedAt}`,
      )
    } else toldAgain += types.length - 1
  }
  return { terminals, closed, files, toldAgain }
}

/** A prompt that is submitted again tells its end again: how often that happened while the socket was open. */
function repeatsDuring(socket: SocketRecord, submissions: readonly Submission[], promptId: string): number {
  const posts = submissions.find((submission) => submission.promptId === promptId)?.posts ?? []
  const { openedAt, closedAt = Number.POSITIVE_INFINITY } = socket
  return posts
    .slice(1)
    .filter(({ sentAt, endedAt, status }) => status === 200 && endedAt >= openedAt && sentAt <= closedAt).length
}
