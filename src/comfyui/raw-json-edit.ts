import { quotePython } from './python-json.ts'
import type { JsonMember, JsonNode, JsonObject } from './raw-json.ts'

/** Replaces `text.slice(start, end)`; equal offsets insert. */
export interface Edit {
  start: number
  end: number
  text: string
}

/** Applies edits to the text they were made for; all other characters stay. Throws RangeError when two overlap. */
export function applyEdits(text: string, edits: readonly Edit[]): string {
  const parts: string[] = []
  let at = 0
  for (const edit of edits.toSorted((a, b) => a.start - b.start || a.end - b.end)) {
    if (edit.start < at || edit.end < edit.start || edit.end > text.length) {
      throw new RangeError(`Edit ${edit.start}..${edit.end} overlaps another or leaves the text`)
    }
    parts.push(text.slice(at, edit.start), edit.text)
    at = edit.end
  }
  parts.push(text.slice(at))
  return parts.join('')
}

interface ObjectPlan {
  removed: Set<string>
  set: Map<string, string>
}

/**
 * Collects changes to a parsed text and applies them at once. Values are given as JSON text. Changes inside something
 * that is itself replaced or removed are a mistake of the caller: `apply` throws RangeError.
 */
export class Splicer {
  readonly #text: string
  readonly #edits: Edit[] = []
  readonly #objects = new Map<JsonObject, ObjectPlan>()

  constructor(text: string) {
    this.#text = text
  }

  /** Replaces a value. */
  replace(node: JsonNode, json: string): this {
    this.#edits.push({ start: node.start, end: node.end, text: json })
    return this
  }

  /** Replaces a member's value (of repeated keys the one that counts), or appends the member. */
  setMember(object: JsonObject, key: string, json: string): this {
    const plan = this.#plan(object)
    plan.removed.delete(key)
    plan.set.set(key, json)
    return this
  }

  /** Removes a member, every repetition of its key, and the comma that belonged to it. */
  removeMember(object: JsonObject, key: string): this {
    const plan = this.#plan(object)
    plan.set.delete(key)
    plan.removed.add(key)
    return this
  }

  /** Gives a member another key; its value and place stay. Nothing happens when there is none. */
  renameMember(object: JsonObject, from: string, to: string): this {
    for (const { key, keyStart, keyEnd } of object.members) {
      if (key === from) this.#edits.push({ start: keyStart, end: keyEnd, text: quotePython(to) })
    }
    return this
  }

  /** The changed text. */
  apply(): string {
    const edits = [...this.#edits]
    for (const [object, plan] of this.#objects) edits.push(...editsOf(object, plan))
    return applyEdits(this.#text, edits)
  }

  #plan(object: JsonObject): ObjectPlan {
    const known = this.#objects.get(object)
    if (known) return known
    const plan: ObjectPlan = { removed: new Set(), set: new Map() }
    this.#objects.set(object, plan)
    return plan
  }
}

function editsOf(object: JsonObject, { removed, set }: ObjectPlan): Edit[] {
  const edits: Edit[] = []
  const appended: string[] = []
  for (const [key, json] of set) {
    const last = object.members.findLast((candidate) => candidate.key === key)
    if (last) edits.push({ start: last.value.start, end: last.value.end, text: json })
    else appended.push(`${quotePython(key)}: ${json}`)
  }

  // What stands behind the last survivor goes with its comma; a run in the middle goes up to the next key.
  const { members } = object
  const lastKept = members.findLastIndex(({ key }) => !removed.has(key))
  for (let index = 0; index < lastKept; index++) {
    const gone = members[index] as JsonMember // index < lastKept < length
    if (!removed.has(gone.key)) continue
    let next = index + 1
    while (removed.has((members[next] as JsonMember).key)) next++ // ends at lastKept
    edits.push({ start: gone.keyStart, end: (members[next] as JsonMember).keyStart, text: '' })
    index = next
  }
  const first = members[0]
  const kept = members[lastKept]
  const start = kept?.value.end ?? first?.keyStart ?? object.start + 1
  const end = members.at(-1)?.value.end ?? start
  const tail = appended.length === 0 ? '' : `${kept ? ', ' : ''}${appended.join(', ')}`
  if (start !== end || tail !== '') edits.push({ start, end, text: tail })
  return edits
}
