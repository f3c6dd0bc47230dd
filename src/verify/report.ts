import type { Check, WorkerTest } from './worker-test.ts'

const COLUMNS = ['worker', 'reachable', 'auth', 'version', 'latency', 'ran', 'picture', 'upload'] as const

/** A table of tested workers, one line each, and below it why something is not ok. Without control characters. */
export function reportOf(tests: readonly WorkerTest[]): string {
  const rows = [[...COLUMNS], ...tests.map(rowOf)].map((row) => row.map(plain))
  const widths = COLUMNS.map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)))
  const lines = rows.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  const reasons = tests.flatMap(({ name, url, checks }) =>
    Object.entries(checks).flatMap(([check, { result, reason }]) =>
      result === 'failed' ? plain(`${name} (${url}): ${check}: ${reason ?? 'failed'}`) : [],
    ),
  )
  return `${[...lines, ...(reasons.length > 0 ? ['', ...reasons] : [])].join('\n')}\n`
}

function rowOf({ name, version, latency_ms, checks }: WorkerTest): string[] {
  const latency = latency_ms === null ? '-' : `${latency_ms} ms`
  return [
    name,
    word(checks.reachable),
    word(checks.auth),
    version ?? '-',
    latency,
    word(checks.ran),
    word(checks.picture),
    word(checks.upload),
  ]
}

function word({ result, reason }: Check): string {
  if (result === 'ok') return 'ok'
  if (result === 'failed') return 'FAILED'
  return reason?.endsWith('not available') ? 'not available' : '-'
}

/** Names and reasons come from workers, and terminals obey escapes. */
const plain = (text: string): string => text.replace(/\p{Cc}/gu, ' ')
