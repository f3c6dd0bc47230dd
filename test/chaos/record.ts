import type { RunOutcome } from '../../src/demo/ledger.ts'

/** Everything that was seen of one run of the chaos test, for the checker. Times are ms since epoch, on one clock. */
export interface ChaosRecord {
  submissions: readonly Submission[]
  sockets: readonly SocketRecord[]
  runs: readonly Run[]
  deaths: readonly Death[]
  /** Answers of `/history/{id}` at the end, by id; undefined where there was no entry. */
  histories: ReadonlyMap<string, HistoryEntry | undefined>
  /** What was read by the names in history, by prompt id. */
  pictures: ReadonlyMap<string, readonly SeenPicture[]>
  /** Processes that ended without being told to. */
  surprises: readonly string[]
}

/** One prompt of one client, under one id: the same work that is sent anew under another id is another submission. */
export interface Submission {
  clientId: string
  colour: number
  width: number
  height: number
  fails: boolean
  /** The id in the 200; undefined when there never was one. */
  promptId: string | undefined
  posts: Post[]
}

export interface Post {
  sentAt: number
  endedAt: number
  /** Undefined: no whole answer came. */
  status: number | undefined
  /** The body of an answer that is not 200. */
  refusal?: string
}

export interface SocketRecord {
  clientId: string
  /** The client had another one before. */
  isReconnect: boolean
  openedAt: number
  /** Undefined: open to the end. */
  closedAt: number | undefined
  frames: Frame[]
}

/** A text frame, as far as the checker reads it. */
export interface Frame {
  at: number
  type: string
  promptId: string | undefined
  /** Of `executing` and `executed`; null ends a prompt. */
  node?: string | null
  /** Of `executed`: names of its files. */
  files?: readonly string[]
}

/** One run in a worker's ledger. */
export interface Run {
  worker: string
  /** The colour in the graph that was posted under its id; undefined for a graph that nobody submitted. */
  colour: number | undefined
  startedAt: number
  /** Undefined: its worker was killed before. */
  endedAt: number | undefined
  outcome: RunOutcome
}

/** A process that was killed. */
export interface Death {
  kind: 'worker' | 'gateway'
  name: string
  /** Before the signal was sent. */
  killedAt: number
  /** Its end was noticed. */
  diedAt: number
}

export interface HistoryEntry {
  outputs: Record<string, { images?: readonly HistoryFile[] }>
  status: { status_str: string; completed: boolean; messages: readonly (readonly [string, Record<string, unknown>])[] }
}

export interface HistoryFile {
  filename: string
  subfolder: string
  type: string
  url: string
}

/** A picture as it came, undefined when none could be read; `status` of the answer. */
export interface SeenPicture {
  url: string
  status: number
  picture: { width: number; height: number; colour: number } | undefined
}

/** `subfolder/filename`. */
export const fileName = ({ subfolder, filename }: Pick<HistoryFile, 'subfolder' | 'filename'>): string =>
  `${subfolder}/${filename}`

export const TERMINAL_TYPES: ReadonlySet<string> = new Set([
  'execution_success',
  'execution_error',
  'execution_interrupted',
])
