/** What placement asks of a prompt, read from its graph. */

import type { ObjectInfo } from './object-info.ts'
import { detach, type JsonNode, member, membersOf, stringValue } from './raw-json.ts'

/** The part of the scheduler's traits that the graph alone decides. */
export interface PromptReading {
  /** Every class of the graph, once each: ComfyUI refuses a graph with an unknown class even where it would not run. */
  classTypes: string[]
  /** Distinct string literals, of nodes that will run, that may choose from a combo of their class. */
  combos: { classType: string; input: string; value: string }[]
  /** True when any worker calls one of the classes a paid partner node. */
  hasPaidNodes: boolean
}

/** Longer strings are no names of files or choices, and traits stay in memory while the prompt waits. */
const MAX_CHOICE_LENGTH = 1024

/**
 * Reads the traits. `roots` are the outputs that will run; undefined takes every node. A literal counts when at least one
 * worker has a combo at its place, or when no worker knows the class. The strings share no memory with the body.
 */
export function readPrompt(prompt: {
  nodes: ReadonlyMap<string, JsonNode>
  infos: readonly ObjectInfo[]
  roots?: readonly string[] | undefined
}): PromptReading {
  const { nodes, infos } = prompt
  const classTypes = new Map<string, string>()
  for (const node of nodes.values()) {
    const name = stringValue(member(node, 'class_type'))
    if (name !== undefined && !classTypes.has(name)) classTypes.set(name, detach(name))
  }
  const combos = new Map<string, PromptReading['combos'][number]>()
  for (const id of prompt.roots ? reachable(nodes, prompt.roots) : nodes.keys()) {
    const node = nodes.get(id)
    const inputs = member(node, 'inputs')
    const classType = classTypes.get(stringValue(member(node, 'class_type')) ?? '')
    if (classType === undefined || inputs?.kind !== 'object') continue
    const holders = infos.flatMap((info) => info.classes.get(classType) ?? [])
    for (const [input, literal] of membersOf(inputs)) {
      const node = member(literal, '__value__') ?? literal
      if (node.kind !== 'string' || node.end - node.start > MAX_CHOICE_LENGTH) continue
      if (holders.length > 0 && !holders.some((holder) => holder.inputs.get(input)?.type === 'COMBO')) continue
      const value = stringValue(node) ?? ''
      const key = JSON.stringify([classType, input, value])
      if (!combos.has(key)) combos.set(key, { classType, input: detach(input), value: detach(value) })
    }
  }
  return {
    classTypes: [...classTypes.values()],
    combos: [...combos.values()],
    hasPaidNodes: infos.some(({ classes }) => [...classTypes.keys()].some((name) => classes.get(name)?.isApiNode)),
  }
}

/** The roots and all nodes behind their links. */
function reachable(nodes: ReadonlyMap<string, JsonNode>, roots: readonly string[]): Set<string> {
  const seen = new Set(roots)
  const waiting = [...roots]
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    const inputs = member(nodes.get(id), 'inputs')
    if (inputs?.kind !== 'object') continue
    for (const { value } of inputs.members) {
      const target = value.kind === 'array' ? stringValue(value.items[0]) : undefined
      if (target === undefined || seen.has(target) || !nodes.has(target)) continue
      seen.add(target)
      waiting.push(target)
    }
  }
  return seen
}
