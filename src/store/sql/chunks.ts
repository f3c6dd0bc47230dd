/**
 * Cuts a list into pieces for `where … in (…)`: databases bound the number of parameters, and statements that differ
 * only in the length of the list are prepared anew.
 */
export function chunks<T>(items: readonly T[], size = 500): T[][] {
  const pieces: T[][] = []
  for (let at = 0; at < items.length; at += size) pieces.push(items.slice(at, at + size))
  return pieces
}
