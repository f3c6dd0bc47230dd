/** The gateway's own check of a prompt, before any worker sees it: ComfyUI's order, words and shapes. */

import {
  badLink,
  type CheckRules,
  type ClassView,
  checkLink,
  checkLiteral,
  classView,
  type InputView,
  innerFault,
  linkTarget,
  missingInput,
  outputFault,
  type Problem,
  type PythonFault,
} from './check-input.ts'
import { distinctInfos, type ObjectInfo } from './object-info.ts'
import { type PromptReading, readPrompt } from './prompt-traits.ts'
import { dumpsNode, dumpsPython, quotePython, RawJson, strNode } from './python-json.ts'
import { detach, type JsonNode, member, membersOf, stringValue } from './raw-json.ts'

export interface ValidationRequest {
  /** The `prompt` of the body. */
  graph: JsonNode
  /** All workers that ever could run it; none at all means that nothing can be said. */
  infos: readonly ObjectInfo[]
  /** The body's member as it stands; absent and `null` mean every output. */
  partialExecutionTargets?: JsonNode | undefined
  /** Which release's words to use; '0.3.64' by default. */
  dialect?: CheckRules['dialect']
  /** Classes that a worker (2026) replaces by others before its own check: taken as they are. */
  replacedClasses?: ReadonlySet<string>
  /**
   * True (default) leaves ranges, lists and link types of a pack's classes to the worker, because such a class may check
   * its inputs itself. False refuses what ComfyUI refuses when it does not.
   */
  customNodesMayValidate?: boolean
}

/** A choice that no worker lists: worth a fresh object_info before the refusal is believed. */
export interface UnlistedChoice {
  classType: string
  input: string
  value: string
}

export type Verdict =
  | {
      kind: 'ok'
      /** Ids of the outputs that will run; empty when nothing is known (no workers, replaced classes). */
      outputs: string[]
      /** JSON text for the answer; `{}` when all is well. */
      nodeErrors: string
      traits: PromptReading
      /** As below, of the outputs that will not run. */
      unlisted: UnlistedChoice[]
    }
  | {
      kind: 'refused'
      /** 500 where ComfyUI's own check falls over (a graph that is no object). */
      status: 400 | 500
      contentType: 'application/json; charset=utf-8' | 'text/plain; charset=utf-8'
      /** ComfyUI's text. */
      body: string
      /** What refreshed lists could change. */
      unlisted: UnlistedChoice[]
      /** Set when the reason is a class that no worker has. */
      unknownClass?: string
    }

/** At most so many nodes and outputs are reported: ComfyUI's own listing grows with their product. */
const MAX_REPORTED = 500

/** Characters of `node_errors` behind which no further node is listed. */
const MAX_REPORT_LENGTH = 16_000_000

/** What ComfyUI answers when a handler throws. */
export const SERVER_ERROR_BODY = '500 Internal Server Error\n\nServer got itself in trouble'

/** The body of `POST /prompt` without a `prompt`. */
export const NO_PROMPT_BODY = errorBody('no_prompt', 'No prompt provided', 'No prompt provided', '{}', '{}')

/**
 * Checks a prompt against the merged view of several workers, in time linear in the graph. Refuses only what every worker
 * would refuse; what cannot be known (a class's own checks, input files, dynamic inputs, cycles) is accepted, and the
 * worker's verdict follows. Errors of a node come in the order in which its class declares the inputs; ComfyUI's order is
 * random. Tracebacks are empty.
 */
export function validatePrompt(request: ValidationRequest): Verdict {
  const { graph, dialect = '0.3.64', replacedClasses = new Set(), partialExecutionTargets: targets } = request
  const infos = distinctInfos(request.infos)
  const isContainer = graph.kind === 'object' || graph.kind === 'array'
  if (isContainer && (graph.kind === 'object' ? graph.members : graph.items).length === 0) return noOutputs()
  if (graph.kind !== 'object') return serverError()

  const nodes = membersOf(graph)
  const isTarget = targetTest(targets)
  const views = new Map<string, ClassView | undefined>()
  const outputs: string[] = []
  let hasUnknown = infos.length === 0
  for (const [id, node] of nodes) {
    const classType = classTypeOf(node)
    if (classType.kind === 'fault') return serverError()
    if (classType.kind === 'missing') return missingClassType(id, node, dialect)
    const name = classType.name
    if (!views.has(name)) views.set(name, classView(infos, name))
    const view = views.get(name)
    if (view === undefined) {
      if (infos.length > 0 && !replacedClasses.has(name)) return unknownClass(id, node, name, dialect)
      hasUnknown = true
    } else if (view.isOutputNode) {
      if (isTarget === undefined) return serverError()
      if (isTarget(id)) outputs.push(id)
    }
  }
  if (outputs.length === 0 && !(hasUnknown && !isEmptyArray(targets))) return noOutputs()

  const rules: CheckRules = { dialect, customNodesMayValidate: request.customNodesMayValidate ?? true }
  const report = new GraphCheck(nodes, (name) => views.get(name), rules).run(outputs)
  const good = outputs.filter((id) => !report.failed.has(id))
  if (good.length === 0 && !hasUnknown) {
    return {
      kind: 'refused',
      status: 400,
      contentType: 'application/json; charset=utf-8',
      body: errorBody(
        'prompt_outputs_failed_validation',
        'Prompt outputs failed validation',
        report.details.join('\n'),
        '{}',
        report.nodeErrors,
      ),
      unlisted: report.unlisted,
    }
  }
  const traits = readPrompt({ nodes, infos, roots: hasUnknown ? undefined : good })
  return { kind: 'ok', outputs: good.map(detach), nodeErrors: report.nodeErrors, traits, unlisted: report.unlisted }
}

type ClassType = { kind: 'name'; name: string } | { kind: 'missing' } | { kind: 'fault' }

function classTypeOf(node: JsonNode): ClassType {
  if (node.kind === 'object') {
    const value = member(node, 'class_type')
    if (value === undefined) return { kind: 'missing' }
    // Lists cannot be looked up; other values are looked up and not found.
    return value.kind === 'array' || value.kind === 'object'
      ? { kind: 'fault' }
      : { kind: 'name', name: strNode(value) }
  }
  if (node.kind === 'array') {
    return node.items.some((item) => stringValue(item) === 'class_type') ? { kind: 'fault' } : { kind: 'missing' }
  }
  const text = stringValue(node)
  return text === undefined || text.includes('class_type') ? { kind: 'fault' } : { kind: 'missing' }
}

/** Python's `id in targets` as a function; undefined where asking throws. */
function targetTest(targets: JsonNode | undefined): ((id: string) => boolean) | undefined {
  switch (targets?.kind) {
    case undefined:
      return () => true
    case 'literal':
      return targets.value === null ? () => true : undefined
    case 'array': {
      const ids = new Set(targets.items.map(stringValue))
      return (id) => ids.has(id)
    }
    case 'object': {
      const ids = membersOf(targets)
      return (id) => ids.has(id)
    }
    case 'string': {
      // A string is searched for the id. Nobody means that, so it must not cost outputs times length either.
      const text = stringValue(targets) ?? ''
      return text.length > 10_000 ? undefined : (id) => text.includes(id)
    }
    default:
      return undefined
  }
}

const isEmptyArray = (node: JsonNode | undefined): boolean => node?.kind === 'array' && node.items.length === 0

interface NodeResult {
  isValid: boolean
  problems: readonly Problem[]
}

/** A node under examination; `next` is the input to look at. */
interface Frame {
  id: string
  view: ClassView
  inputs: Map<string, JsonNode>
  next: number
  problems: Problem[]
  isValid: boolean
}

interface GraphReport {
  failed: Set<string>
  /** Lines about the output nodes themselves. */
  details: string[]
  nodeErrors: string
  unlisted: UnlistedChoice[]
}

/** Walks from the outputs along the links, each node once, without recursion: a chain may be as long as the body. */
class GraphCheck {
  readonly #nodes: ReadonlyMap<string, JsonNode>
  readonly #viewOf: (classType: string) => ClassView | undefined
  readonly #rules: CheckRules
  readonly #results = new Map<string, NodeResult>()
  /** Failed nodes with problems of their own, in the order of their verdicts; bounded. */
  readonly #reported: string[] = []
  readonly #unlisted: UnlistedChoice[] = []

  constructor(
    nodes: ReadonlyMap<string, JsonNode>,
    viewOf: (classType: string) => ClassView | undefined,
    rules: CheckRules,
  ) {
    this.#nodes = nodes
    this.#viewOf = viewOf
    this.#rules = rules
  }

  run(outputs: readonly string[]): GraphReport {
    const failed = new Set<string>()
    const details: string[] = []
    const dependents = new Map<string, string[]>()
    for (const id of outputs) {
      const { isValid, problems } = this.#results.get(id) ?? this.#checkOutput(id)
      if (isValid) continue
      failed.add(id)
      if (failed.size > MAX_REPORTED) continue
      for (const { message, details: line } of problems) details.push(`${message}: ${line}`)
      // As in ComfyUI, whatever has failed so far is listed under this output too, upstream of it or not.
      for (const node of this.#reported) {
        const list = dependents.get(node)
        if (list) list.push(id)
        else dependents.set(node, [id])
      }
    }
    return { failed, details, nodeErrors: this.#nodeErrors(dependents), unlisted: this.#unlisted }
  }

  #nodeErrors(dependents: ReadonlyMap<string, readonly string[]>): string {
    const entries: string[] = []
    let length = 0
    for (const [id, outputs] of dependents) {
      const problems = this.#results.get(id)?.problems ?? []
      const body = dumpsPython({
        errors: problems.map(({ json }) => new RawJson(json())),
        dependent_outputs: outputs,
        class_type: classNameOf(this.#nodes.get(id)),
      })
      entries.push(`${quotePython(id)}: ${body}`)
      length += body.length
      if (length > MAX_REPORT_LENGTH) break
    }
    return `{${entries.join(', ')}}`
  }

  #checkOutput(id: string): NodeResult {
    const stack: Frame[] = []
    const open = new Set<string>()
    const enter = (nodeId: string): PythonFault | undefined => {
      const frame = this.#frame(nodeId)
      if (frame === undefined) this.#settle(nodeId, true, [])
      else if ('type' in frame) return frame
      else {
        stack.push(frame)
        open.add(nodeId)
      }
      return undefined
    }
    /** A fault unwinds one node: its link's owner reports it in its place, or the prompt does for an output. */
    const fail = (nodeId: string, fault: PythonFault): void => {
      const parent = stack.at(-1)
      const at = parent?.view.inputs[parent.next - 1]
      const link = at && parent?.inputs.get(at.name)
      if (parent) parent.isValid = false
      this.#settle(nodeId, false, [at && link?.kind === 'array' ? innerFault(at, link, fault) : outputFault(fault)])
    }

    const fault = enter(id)
    if (fault) fail(id, fault)
    for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
      const input = frame.view.inputs[frame.next]
      if (input === undefined) {
        stack.pop()
        open.delete(frame.id)
        const isValid = frame.isValid && frame.problems.length === 0
        this.#settle(frame.id, isValid, frame.problems)
        const parent = stack.at(-1)
        if (parent && !isValid) parent.isValid = false
        continue
      }
      frame.next++
      const step = this.#checkInput(frame, input)
      if (step === undefined) continue
      if (typeof step !== 'string') {
        stack.pop()
        open.delete(frame.id)
        fail(frame.id, step)
        continue
      }
      const known = this.#results.get(step)
      if (known) frame.isValid &&= known.isValid
      // A cycle: 0.3.64 and later judge it differently, so the worker does.
      else if (!open.has(step)) {
        const inner = enter(step)
        if (inner) fail(step, inner)
      }
    }
    return this.#results.get(id) ?? { isValid: true, problems: [] }
  }

  /** Checks one input; gives the id of the linked node to go on with, or the fault that ends this node's check. */
  #checkInput(frame: Frame, input: InputView): string | PythonFault | undefined {
    const value = frame.inputs.get(input.name)
    if (value === undefined) {
      if (input.isRequired) frame.problems.push(missingInput(input.name))
      return undefined
    }
    if (value.kind !== 'array') {
      const found = checkLiteral(input, unwrapped(value), this.#rules)
      if (found === undefined) return undefined
      frame.problems.push(found)
      if (found.unlisted !== undefined && this.#unlisted.length < MAX_REPORTED) {
        this.#unlisted.push({ classType: frame.view.name, input: input.name, value: found.unlisted })
      }
      return undefined
    }
    const [idNode] = value.items
    if (idNode === undefined || value.items.length !== 2) {
      const found = badLink(input, value)
      if (found) frame.problems.push(found)
      return undefined
    }
    const target = linkTarget(idNode, (id) => this.#nodes.has(id))
    if (typeof target !== 'string') return target
    const source = this.#viewOf(classNameOf(this.#nodes.get(target)))
    if (source === undefined) return undefined
    const found = checkLink(input, value, source, this.#rules)
    if (found === undefined) return target
    if ('type' in found) return found
    frame.problems.push(found)
    return undefined
  }

  /** Undefined for a node about which nothing can be said. */
  #frame(id: string): Frame | PythonFault | undefined {
    const node = this.#nodes.get(id)
    const view = this.#viewOf(classNameOf(node))
    if (view === undefined) return undefined
    const inputs = member(node, 'inputs')
    if (inputs === undefined) return { type: 'KeyError', text: "'inputs'" }
    if (inputs.kind !== 'object') return undefined
    return { id, view, inputs: membersOf(inputs), next: 0, problems: [], isValid: true }
  }

  #settle(id: string, isValid: boolean, problems: readonly Problem[]): void {
    const isReported = problems.length > 0 && this.#reported.length < MAX_REPORTED
    if (isReported) this.#reported.push(id)
    this.#results.set(id, { isValid, problems: isReported ? problems : [] })
  }
}

const classNameOf = (node: JsonNode | undefined): string => {
  const value = member(node, 'class_type')
  return value === undefined ? '' : strNode(value)
}

/** A list (or anything) as a literal is wrapped, because a bare list would be a link. */
const unwrapped = (value: JsonNode): JsonNode => member(value, '__value__') ?? value

function missingClassType(id: string, node: JsonNode, dialect: CheckRules['dialect']): Verdict {
  const details = `Node ID '#${id}'`
  if (dialect === '0.3.64') {
    const message = 'Cannot execute because a node is missing the class_type property.'
    return refused(errorBody('invalid_prompt', message, details, '{}', '{}'))
  }
  const title = titleOf(node)
  const name = title === undefined ? `ID #${id}` : strNode(title)
  const message = `Node '${name}' has no class_type. The workflow may be corrupted or a custom node is missing.`
  const extra = { node_id: id, class_type: null, node_title: title ? new RawJson(dumpsNode(title)) : null }
  return refused(errorBody('missing_node_type', message, details, dumpsPython(extra), '{}'))
}

function unknownClass(id: string, node: JsonNode, name: string, dialect: CheckRules['dialect']): Verdict {
  const details = `Node ID '#${id}'`
  if (dialect === '0.3.64') {
    const message = `Cannot execute because node ${name} does not exist.`
    return { ...refused(errorBody('invalid_prompt', message, details, '{}', '{}')), unknownClass: name }
  }
  const classType = member(node, 'class_type')
  const title = titleOf(node) ?? classType
  const message = `Node '${title ? strNode(title) : ''}' not found. The custom node may not be installed.`
  const extra = {
    node_id: id,
    class_type: classType ? new RawJson(dumpsNode(classType)) : null,
    node_title: title ? new RawJson(dumpsNode(title)) : null,
  }
  const body = errorBody('missing_node_type', message, details, dumpsPython(extra), '{}')
  return { ...refused(body), unknownClass: name }
}

const titleOf = (node: JsonNode): JsonNode | undefined => member(member(node, '_meta'), 'title')

const noOutputs = (): Verdict => refused(errorBody('prompt_no_outputs', 'Prompt has no outputs', '', '{}', '{}'))

function refused(body: string): Verdict & { kind: 'refused' } {
  return { kind: 'refused', status: 400, contentType: 'application/json; charset=utf-8', body, unlisted: [] }
}

function serverError(): Verdict {
  const contentType = 'text/plain; charset=utf-8'
  return { kind: 'refused', status: 500, contentType, body: SERVER_ERROR_BODY, unlisted: [] }
}

function errorBody(type: string, message: string, details: string, extraInfo: string, nodeErrors: string): string {
  const error = { type, message, details, extra_info: new RawJson(extraInfo) }
  return dumpsPython({ error, node_errors: new RawJson(nodeErrors) })
}
