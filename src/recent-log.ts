/** A line of the gateway's log, for people. */
export interface RecentLine {
  /** ISO time. */
  at: string
  text: string
}

/** As many as ComfyUI keeps. */
const MAX_LINES = 300
const MAX_LINE_LENGTH = 2_000
const LEVELS: readonly [level: number, name: string][] = [
  [50, 'error'],
  [40, 'warn'],
]
/** Of no use without the process, or said already. */
const LEFT_OUT = new Set(['level', 'time', 'pid', 'hostname', 'msg', 'v'])

/** The newest lines that the log was given: a stream for pino beside the one that writes them out. */
export class RecentLog {
  readonly #lines: string[] = []

  /** One line of JSON, as pino writes it. */
  write(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length > MAX_LINES) this.#lines.shift()
  }

  /** Oldest first. */
  lines(): RecentLine[] {
    return this.#lines.flatMap((line) => readLine(line) ?? [])
  }
}

function readLine(line: string): RecentLine | undefined {
  try {
    const record = Object.entries(JSON.parse(line) as object) // pino writes objects; anything else has no entries.
    const { time, level, msg } = Object.fromEntries(record) as Record<string, unknown>
    const words = [LEVELS.find(([least]) => Number(level) >= least)?.[1], msg].filter((word) => word !== undefined)
    for (const [name, value] of record) if (!LEFT_OUT.has(name)) words.push(`${name}=${inWords(value)}`)
    return { at: new Date(Number(time)).toISOString(), text: words.join(' ').slice(0, MAX_LINE_LENGTH) }
  } catch {
    return undefined
  }
}

/** An error by its message: where in the program it came from is for the log itself. */
function inWords(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value)
  return 'message' in value && 'stack' in value ? String(value.message) : JSON.stringify(value)
}
