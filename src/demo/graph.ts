import { inputSection, type NodeClass } from './classes.ts'
import {
  isPyObject,
  type PyDumpable,
  PyNumber,
  type PyObject,
  type PyValue,
  pyFloat,
  pyInt,
  pyRepr,
  pyStr,
} from './py-json.ts'

/** What a graph is checked against. */
export interface GraphRules {
  classOf(name: string): NodeClass | undefined
  /** A class's own check of a literal; a text says what is wrong. */
  customCheck(className: string, inputName: string, value: PyValue): string | undefined
  /** The class checks this input itself, so lists and bounds are not applied to it. */
  hasCustomCheck(className: string, inputName: string): boolean
  is2026: boolean
}

/** The `error` member of a refused prompt. */
export interface PromptError {
  type: string
  message: string
  details: string
  extraInfo: PyDumpable
}

export type Verdict =
  | { kind: 'accepted'; outputs: string[]; nodeErrors: PyDumpable }
  | { kind: 'refused'; error: PromptError; nodeErrors: PyDumpable }

/** The graph is not even shaped like one; ComfyUI answers 500. */
class MalformedGraphError extends Error {}

interface InputError {
  type: string
  message: string
  details: string
  extraInfo: { [key: string]: PyDumpable }
}

interface NodeVerdict {
  valid: boolean
  errors: InputError[]
}

/** Combos longer than this are not repeated in an error. */
const MAX_LISTED_CHOICES = 20

/**
 * Checks a graph as ComfyUI does at `POST /prompt`. Coerces literals in place, as ComfyUI does.
 * `targets` restricts the output nodes. Throws MalformedGraphError where ComfyUI fails with a 500.
 */
export function validateGraph(prompt: PyValue, rules: GraphRules, targets?: ReadonlySet<string>): Verdict {
  if (!isPyObject(prompt)) throw new MalformedGraphError('The prompt is not an object')
  const outputs: string[] = []
  for (const [nodeId, node] of prompt) {
    const unknown = unknownClass(nodeId, node, rules)
    if (unknown) return { kind: 'refused', error: unknown, nodeErrors: {} }
    if (classOfNode(node, rules)?.outputNode && (!targets || targets.has(nodeId))) outputs.push(nodeId)
  }
  if (outputs.length === 0) {
    const error = { type: 'prompt_no_outputs', message: 'Prompt has no outputs', details: '', extraInfo: {} }
    return { kind: 'refused', error, nodeErrors: {} }
  }
  return judgeOutputs(prompt, outputs, rules)
}

/** `[nodeId, slot]` of a linked input, or undefined for a literal. */
export function linkOf(value: PyValue | undefined): { nodeId: string; slot: number } | undefined {
  if (!Array.isArray(value) || value.length !== 2) return undefined
  const [nodeId, slot] = value
  return typeof nodeId === 'string' && slot instanceof PyNumber ? { nodeId, slot: slot.value } : undefined
}

/** The inputs of a node; empty when it has none. */
export function inputsOf(node: PyValue | undefined): PyObject {
  const inputs = isPyObject(node) ? node.get('inputs') : undefined
  return isPyObject(inputs) ? inputs : new Map()
}

/** The class name of a node. */
export function classNameOf(node: PyValue | undefined): string {
  const name = isPyObject(node) ? node.get('class_type') : undefined
  return typeof name === 'string' ? name : ''
}

function classOfNode(node: PyValue | undefined, rules: GraphRules): NodeClass | undefined {
  return rules.classOf(classNameOf(node))
}

function unknownClass(nodeId: string, node: PyValue, rules: GraphRules): PromptError | undefined {
  if (!isPyObject(node)) throw new MalformedGraphError('A node is not an object')
  const meta = node.get('_meta')
  const title = (isPyObject(meta) ? meta.get('title') : undefined) ?? null
  const details = `Node ID '#${nodeId}'`
  if (!node.has('class_type')) {
    return rules.is2026
      ? {
          type: 'missing_node_type',
          message: `Node '${title === null ? nodeId : pyStr(title)}' has no class_type. The workflow may be corrupted or a custom node is missing.`,
          details,
          extraInfo: { node_id: nodeId, class_type: null, node_title: title },
        }
      : {
          type: 'invalid_prompt',
          message: 'Cannot execute because a node is missing the class_type property.',
          details,
          extraInfo: {},
        }
  }
  if (classOfNode(node, rules)) return undefined
  const name = node.get('class_type') ?? null
  return rules.is2026
    ? {
        type: 'missing_node_type',
        message: `Node '${title === null ? pyStr(name) : pyStr(title)}' not found. The custom node may not be installed.`,
        details,
        extraInfo: { node_id: nodeId, class_type: name, node_title: title },
      }
    : {
        type: 'invalid_prompt',
        message: `Cannot execute because node ${pyStr(name)} does not exist.`,
        details,
        extraInfo: {},
      }
}

function judgeOutputs(prompt: PyObject, outputs: readonly string[], rules: GraphRules): Verdict {
  const judge = new NodeJudge(prompt, rules)
  const good: string[] = []
  const details: string[] = []
  const nodeErrors = new Map<string, { errors: InputError[]; dependentOutputs: string[] }>()
  for (const output of outputs) {
    const verdict = judge.output(output)
    if (verdict.valid) {
      good.push(output)
      continue
    }
    for (const error of verdict.errors) details.push(`${error.message}: ${error.details}`)
    for (const [nodeId, { valid, errors }] of judge.verdicts) {
      if (valid || errors.length === 0) continue
      const entry = nodeErrors.get(nodeId) ?? { errors, dependentOutputs: [] }
      entry.dependentOutputs.push(output)
      nodeErrors.set(nodeId, entry)
    }
  }
  const reported: PyDumpable = new Map<string, PyDumpable>(
    [...nodeErrors].map(([nodeId, { errors, dependentOutputs }]) => [
      nodeId,
      {
        errors: errors.map(({ extraInfo, ...error }) => ({ ...error, extra_info: extraInfo })),
        dependent_outputs: dependentOutputs,
        class_type: classNameOf(prompt.get(nodeId)),
      },
    ]),
  )
  if (good.length > 0) return { kind: 'accepted', outputs: good, nodeErrors: reported }
  const error = {
    type: 'prompt_outputs_failed_validation',
    message: 'Prompt outputs failed validation',
    details: details.join('\n'),
    extraInfo: {},
  }
  return { kind: 'refused', error, nodeErrors: reported }
}

class PythonError extends Error {
  readonly type: string
  constructor(type: string, message: string) {
    super(message)
    this.type = type
  }
}

class NodeJudge {
  readonly verdicts = new Map<string, NodeVerdict>()
  readonly #prompt: PyObject
  readonly #rules: GraphRules
  readonly #path = new Set<string>()

  constructor(prompt: PyObject, rules: GraphRules) {
    this.#prompt = prompt
    this.#rules = rules
  }

  output(nodeId: string): NodeVerdict {
    try {
      return this.#node(nodeId)
    } catch (error) {
      const verdict = {
        valid: false,
        errors: [
          {
            type: 'exception_during_validation',
            message: 'Exception when validating node',
            details: messageOf(error),
            extraInfo: { exception_type: typeOf(error), traceback: [] },
          },
        ],
      }
      this.verdicts.set(nodeId, verdict)
      return verdict
    }
  }

  #node(nodeId: string): NodeVerdict {
    const known = this.verdicts.get(nodeId)
    if (known) return known
    const node = this.#prompt.get(nodeId)
    const nodeClass = classOfNode(node, this.#rules)
    const inputs = isPyObject(node) ? node.get('inputs') : undefined
    if (!nodeClass || !isPyObject(inputs)) throw new PythonError('KeyError', "'inputs'")
    const verdict: NodeVerdict = { valid: true, errors: [] }
    this.#path.add(nodeId)
    try {
      for (const [name, declared] of inputSection(nodeClass, 'required')) {
        if (inputs.has(name)) this.#input(verdict, nodeClass, inputs, name, declared)
        else verdict.errors.push(missingInput(name))
      }
      for (const [name, declared] of inputSection(nodeClass, 'optional')) {
        if (inputs.has(name)) this.#input(verdict, nodeClass, inputs, name, declared)
      }
    } finally {
      this.#path.delete(nodeId)
    }
    if (verdict.errors.length > 0) verdict.valid = false
    this.verdicts.set(nodeId, verdict)
    return verdict
  }

  #input(verdict: NodeVerdict, nodeClass: NodeClass, inputs: PyObject, name: string, declared: PyValue): void {
    const [type = '*', optionsValue] = Array.isArray(declared) ? declared : []
    const options: PyObject = isPyObject(optionsValue) ? optionsValue : new Map()
    const config: PyDumpable = [type, options]
    const value = inputs.get(name) ?? null
    if (Array.isArray(value)) this.#link(verdict, { name, type, config, value })
    else {
      const error = this.#literal(nodeClass, inputs, { name, type, options, config, value })
      if (error) verdict.errors.push(error)
    }
  }

  #link(
    verdict: NodeVerdict,
    { name, type, config, value }: { name: string; type: PyValue; config: PyDumpable; value: PyValue[] },
  ): void {
    const base = { input_name: name, input_config: config }
    if (value.length !== 2) {
      verdict.errors.push({
        type: 'bad_linked_input',
        message: 'Bad linked input, must be a length-2 list of [node_id, slot_index]',
        details: name,
        extraInfo: { ...base, received_value: value },
      })
      return
    }
    const [fromId = null, slot = null] = value
    const from = typeof fromId === 'string' ? this.#prompt.get(fromId) : undefined
    if (typeof fromId !== 'string' || from === undefined) throw new PythonError('KeyError', pyRepr(fromId))
    const received = slot instanceof PyNumber ? classOfNode(from, this.#rules)?.output[slot.value] : undefined
    if (received === undefined) throw new PythonError('IndexError', 'tuple index out of range')
    if (!typesMatch(received, type)) {
      const details = `${name}, received_type(${received}) mismatch input_type(${pyStr(type)})`
      verdict.errors.push({
        type: 'return_type_mismatch',
        message: 'Return type mismatch between linked nodes',
        details,
        extraInfo: { ...base, received_type: received, linked_node: value },
      })
      return
    }
    if (this.#path.has(fromId)) {
      // Releases of 2025 find a cycle only when the prompt runs.
      if (this.#rules.is2026) verdict.errors.push(cycleError(name, [...this.#path, fromId]))
      return
    }
    try {
      if (!this.#node(fromId).valid) verdict.valid = false
    } catch (error) {
      verdict.valid = false
      this.verdicts.set(fromId, {
        valid: false,
        errors: [
          {
            type: 'exception_during_inner_validation',
            message: 'Exception when validating inner node',
            details: messageOf(error),
            extraInfo: {
              ...base,
              exception_message: messageOf(error),
              exception_type: typeOf(error),
              traceback: [],
              linked_node: value,
            },
          },
        ],
      })
    }
  }

  #literal(
    nodeClass: NodeClass,
    inputs: PyObject,
    input: { name: string; type: PyValue; options: PyObject; config: PyDumpable; value: PyValue },
  ): InputError | undefined {
    const { name, type, options, config } = input
    const wrapped = isPyObject(input.value) ? input.value.get('__value__') : undefined
    let value = wrapped ?? input.value
    try {
      value = coerce(value, type)
      inputs.set(name, value)
    } catch (error) {
      const message = messageOf(error)
      return {
        type: 'invalid_input_type',
        message: `Failed to convert an input value to a ${pyStr(type)} value`,
        details: `${name}, ${pyStr(value)}, ${message}`,
        extraInfo: { input_name: name, input_config: config, received_value: value, exception_message: message },
      }
    }
    const extraInfo = { input_name: name, input_config: config, received_value: value }
    if (this.#rules.hasCustomCheck(nodeClass.name, name)) {
      const complaint = this.#rules.customCheck(nodeClass.name, name, value)
      if (complaint === undefined) return undefined
      return {
        type: 'custom_validation_failed',
        message: 'Custom validation failed for node',
        details: `${name} - ${complaint}`,
        extraInfo: { input_name: name },
      }
    }
    const [min, max] = [options.get('min'), options.get('max')]
    if (min instanceof PyNumber && value instanceof PyNumber && isLess(value, min)) {
      const message = `Value ${value.text} smaller than min of ${min.text}`
      return { type: 'value_smaller_than_min', message, details: name, extraInfo }
    }
    if (max instanceof PyNumber && value instanceof PyNumber && isLess(max, value)) {
      const message = `Value ${value.text} bigger than max of ${max.text}`
      return { type: 'value_bigger_than_max', message, details: name, extraInfo }
    }
    const choices = Array.isArray(type) ? type : type === 'COMBO' ? options.get('options') : undefined
    if (!Array.isArray(choices) || choices.some((choice) => isSame(choice, value))) return undefined
    const isLong = choices.length > MAX_LISTED_CHOICES
    return {
      type: 'value_not_in_list',
      message: 'Value not in list',
      details: `${name}: '${pyStr(value)}' not in ${isLong ? `(list of length ${choices.length})` : pyRepr(choices)}`,
      extraInfo: { ...extraInfo, input_config: isLong ? null : config },
    }
  }
}

const missingInput = (name: string): InputError => ({
  type: 'required_input_missing',
  message: 'Required input is missing',
  details: name,
  extraInfo: { input_name: name },
})

const cycleError = (name: string, path: readonly string[]): InputError => ({
  type: 'dependency_cycle',
  message: 'Dependency cycle detected',
  details: path.join(' -> '),
  extraInfo: { input_name: name, cycle_nodes: [...path] },
})

function typesMatch(received: string, wanted: PyValue): boolean {
  if (received === '*' || wanted === '*') return true
  if (typeof wanted !== 'string') return false
  const accepted = wanted.split(',').map((type) => type.trim())
  return received.split(',').every((type) => accepted.includes(type.trim()))
}

function coerce(value: PyValue, type: PyValue): PyValue {
  if (type === 'INT') return toInt(value)
  if (type === 'FLOAT') return toFloat(value)
  if (type === 'STRING') return pyStr(value)
  if (type === 'BOOLEAN') return isTruthy(value)
  return value
}

/** Python's `bool(value)`. */
export function isTruthy(value: PyValue | undefined): boolean {
  if (value instanceof PyNumber) return value.value !== 0
  if (Array.isArray(value)) return value.length > 0
  return isPyObject(value) ? value.size > 0 : Boolean(value)
}

function toInt(value: PyValue): PyNumber {
  if (value instanceof PyNumber) {
    if (value.isInteger) return value
    if (!Number.isFinite(value.value)) throw new PythonError('ValueError', 'cannot convert float NaN to integer')
    return pyInt(BigInt(Math.trunc(value.value)))
  }
  if (typeof value === 'boolean') return pyInt(value ? 1 : 0)
  if (typeof value === 'string') {
    if (/^\s*[+-]?\d+\s*$/.test(value)) return pyInt(BigInt(value.trim().replace(/^\+/, '')))
    throw new PythonError('ValueError', `invalid literal for int() with base 10: ${pyRepr(value)}`)
  }
  const message = `int() argument must be a string, a bytes-like object or a real number, not '${typeName(value)}'`
  throw new PythonError('TypeError', message)
}

/** Python's `float(value)`. Throws where it raises. */
export function toFloat(value: PyValue): PyNumber {
  if (value instanceof PyNumber) return pyFloat(value.value)
  if (typeof value === 'boolean') return pyFloat(value ? 1 : 0)
  if (typeof value === 'string') {
    const parsed = value.trim() === '' ? Number.NaN : Number(value)
    if (!Number.isNaN(parsed)) return pyFloat(parsed)
    throw new PythonError('ValueError', `could not convert string to float: ${pyRepr(value)}`)
  }
  throw new PythonError('TypeError', `float() argument must be a string or a real number, not '${typeName(value)}'`)
}

const typeName = (value: PyValue): string =>
  value === null ? 'NoneType' : Array.isArray(value) ? 'list' : isPyObject(value) ? 'dict' : 'str'

function isLess(a: PyNumber, b: PyNumber): boolean {
  return a.isInteger && b.isInteger ? BigInt(a.text) < BigInt(b.text) : a.value < b.value
}

const isSame = (a: PyValue, b: PyValue): boolean =>
  a instanceof PyNumber && b instanceof PyNumber ? a.value === b.value : a === b

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const typeOf = (error: unknown): string => (error instanceof PythonError ? error.type : 'RecursionError')
