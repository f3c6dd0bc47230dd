import { encodeText } from './odd-text.ts'

/**
 * A text as MySQL keeps it. The binary collation that MySQL and MariaDB share takes `a` and `a ` for the same, so a
 * space at the end is written in the way of other oddities, which `decodeText` undoes.
 */
export function encodeMysqlText(text: string): string {
  const encoded = encodeText(text)
  return encoded.endsWith(' ') ? `${encoded.slice(0, -1)}\u001a0020` : encoded
}
