import { toUSVString } from 'node:util'

// SQLite's C interface ends a text at its first NUL, and UTF-8 cannot write half of a surrogate pair. Both can stand in
// an id or a file name that a client or a worker made up, so they are written as the mark and four hex digits.
const mark = '\u001a'
// Kept apart from the literal above so that no control character stands in a pattern.
const needsMark = new RegExp(`[\\0${mark}]|\\p{Surrogate}`, 'gu')
const marked = new RegExp(`${mark}([0-9a-f]{4})`, 'g')

/** A text as a database keeps it. Texts without oddities, nearly all, are kept as they are. */
export function encodeText(text: string): string {
  if (!text.includes('\0') && !text.includes(mark) && toUSVString(text) === text) return text
  return text.replace(needsMark, (unit) => mark + unit.charCodeAt(0).toString(16).padStart(4, '0'))
}

/** Undoes {@link encodeText}. */
export function decodeText(kept: string): string {
  if (!kept.includes(mark)) return kept
  return kept.replace(marked, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)))
}
