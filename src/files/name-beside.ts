import { quotePython } from '../comfyui/python-json.ts'
import type { InputBinding } from '../scheduler/traits.ts'

/** Names that a worker alone knows: they tell the content, where the clients' name could mean another one. */

/** A file name may have 255 bytes; the rest is for the hash and a number. */
const MAX_NAME_BYTES = 200

/** The content's first digits and the name; `round` tells several of the same content apart. */
export function nameBeside({ hash, name, round }: { hash: string; name: string; round?: number }): string {
  const start = hash.slice(0, 12)
  return `${round === undefined ? start : `${start}.${round.toString(36)}`}-${plainName(name)}`
}

function plainName(name: string): string {
  let plain = name.replace(/[\p{Cc}"\\/:*?<>|%]/gu, '_')
  while (Buffer.byteLength(plain) > MAX_NAME_BYTES) plain = plain.slice(1)
  return plain
}

/** JSON text of a worker with the names that it alone knows put back to those of the client. */
export function withClientNames(json: string, inputs: readonly InputBinding[]): string {
  let text = json
  for (const { hash, name } of inputs) {
    const start = hash.slice(0, 12)
    if (!text.includes(start)) continue
    const rest = inner(`-${plainName(name)}`).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    const own = inner(name)
    text = text.replace(new RegExp(`${start}(?:\\.[0-9a-z]{1,12})?${rest}`, 'g'), () => own)
  }
  return text
}

/** As it stands within a JSON string of Python's. */
const inner = (text: string): string => quotePython(text).slice(1, -1)
