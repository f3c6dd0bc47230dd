/** What ComfyUI says about one input of one node, as far as `object_info` lets us be sure of it. */

import { type ClassInfo, choiceKey, type InputInfo, type ObjectInfo, spellingOf } from './object-info.ts'
import { classVariants, mergedChoicesText } from './object-info-merge.ts'
import {
  dumpsNode,
  dumpsPython,
  dumpsScalar,
  type PythonScalar,
  RawJson,
  reprNode,
  reprScalar,
  scalarOf,
  strNode,
  strScalar,
} from './python-json.ts'
import { type JsonArray, type JsonNode, parseJson } from './raw-json.ts'

/** One entry of `node_errors[id].errors`. */
export interface Problem {
  message: string
  details: string
  /** The whole entry as JSON text, built only for what is reported: it may repeat a long list. */
  json: () => string
  /** Set for `value_not_in_list` with a string: what no worker lists. */
  unlisted?: string
}

export interface CheckRules {
  /** From 2026 on the newer form of a combo is checked too. */
  dialect: '0.3.64' | '2026'
  /** A pack's class may check its inputs itself, which object_info does not show; then only the certain is refused. */
  customNodesMayValidate: boolean
}

/** A class as all workers that have it see it. */
export interface ClassView {
  name: string
  variants: readonly ClassInfo[]
  /** True when any worker says so. */
  isOutputNode: boolean
  isApiNode: boolean
  /** Inputs that every variant has; only about these can we be sure. */
  inputs: readonly InputView[]
}

export interface InputView {
  name: string
  isRequired: boolean
  variants: readonly { owner: ClassInfo; input: InputInfo }[]
}

/** The class over several workers (of distinct content); undefined when none has it. */
export function classView(infos: readonly ObjectInfo[], name: string): ClassView | undefined {
  const variants = classVariants(infos, name)
  const [first] = variants
  if (first === undefined) return undefined
  const inputs: InputView[] = []
  for (const inputName of first.inputs.keys()) {
    const holders: { owner: ClassInfo; input: InputInfo }[] = []
    for (const owner of variants) {
      const input = owner.inputs.get(inputName)
      if (input && input.kind !== 'hidden' && !isDynamic(input)) holders.push({ owner, input })
    }
    if (holders.length < variants.length) continue
    const isRequired = holders.every(({ input }) => input.kind === 'required')
    inputs.push({ name: inputName, isRequired, variants: holders })
  }
  return {
    name,
    variants,
    isOutputNode: variants.some((variant) => variant.isOutputNode),
    isApiNode: variants.some((variant) => variant.isApiNode),
    inputs,
  }
}

/** Inputs that unfold into others by what the prompt holds (2026): only the worker knows their names. */
const isDynamic = (input: InputInfo): boolean => input.type.startsWith('COMFY_')

export function missingInput(name: string): Problem {
  return problem('required_input_missing', 'Required input is missing', name, () => ({ input_name: name }))
}

/** An array that is no `[node id, output]`. */
export function badLink(view: InputView, link: JsonArray): Problem | undefined {
  if (isTooLong(link)) return undefined
  return problem(
    'bad_linked_input',
    'Bad linked input, must be a length-2 list of [node_id, slot_index]',
    view.name,
    () => ({
      input_name: view.name,
      input_config: config(view),
      received_value: new RawJson(dumpsNode(link)),
    }),
  )
}

/** An exception that ComfyUI's check runs into while it follows a link or reads a node. */
export interface PythonFault {
  type: string
  text: string
}

/** ComfyUI's words for a fault in an output node. The traceback is empty: it would name files of a worker. */
export function outputFault(fault: PythonFault): Problem {
  return problem('exception_during_validation', 'Exception when validating node', fault.text, () => ({
    exception_type: fault.type,
    traceback: [],
  }))
}

/** ComfyUI's words for a fault in a node behind a link. */
export function innerFault(view: InputView, link: JsonArray, fault: PythonFault): Problem {
  return problem('exception_during_inner_validation', 'Exception when validating inner node', fault.text, () => ({
    input_name: view.name,
    input_config: config(view),
    exception_message: fault.text,
    exception_type: fault.type,
    traceback: [],
    linked_node: new RawJson(dumpsNode(link)),
  }))
}

/** The node id of a link, or the fault that looking it up causes. */
export function linkTarget(node: JsonNode, has: (id: string) => boolean): string | PythonFault {
  const id = scalarOf(node)
  if (id === undefined) {
    return { type: 'TypeError', text: `unhashable type: '${node.kind === 'array' ? 'list' : 'dict'}'` }
  }
  return typeof id === 'string' && has(id) ? id : { type: 'KeyError', text: reprScalar(id) }
}

/** Checks a link's output number and type. Undefined when it fits or when we cannot be sure that it does not. */
export function checkLink(
  view: InputView,
  link: JsonArray,
  source: ClassView,
  rules: CheckRules,
): Problem | PythonFault | undefined {
  if (![...view.variants.map(({ owner }) => owner), ...source.variants].every((owner) => isPlain(owner, rules))) {
    return undefined
  }
  const slot = scalarOf(link.items[1] as JsonNode) // links have two items
  if (typeof slot === 'string' || typeof slot === 'number') {
    const type = typeof slot === 'string' ? 'str' : 'float'
    return { type: 'TypeError', text: `tuple indices must be integers or slices, not ${type}` }
  }
  if (typeof slot !== 'bigint') return undefined
  let received: string | undefined
  for (const { outputs } of source.variants) {
    // Python counts from the end for negative numbers.
    const index = slot < 0n ? slot + BigInt(outputs.length) : slot
    if (index < 0n || index >= BigInt(outputs.length)) continue
    const type = outputs[Number(index)]
    if (type === undefined) return undefined
    for (const { input } of view.variants) if (mayConnect(type, input)) return undefined
    received ??= type
  }
  if (received === undefined) return { type: 'IndexError', text: 'tuple index out of range' }
  const wanted = view.variants[0]?.input.type ?? ''
  return problem(
    'return_type_mismatch',
    'Return type mismatch between linked nodes',
    `${view.name}, received_type(${received}) mismatch input_type(${wanted})`,
    () => ({
      input_name: view.name,
      input_config: config(view),
      received_type: received,
      linked_node: new RawJson(dumpsNode(link)),
    }),
  )
}

/** Types are comma-separated unions; `*` and combos take anything as far as we can tell. */
function mayConnect(received: string, input: InputInfo): boolean {
  if (input.isListForm || input.type === 'COMBO' || input.type === '?' || received === 'COMBO') return true
  const receivedTypes = received.split(',').map((type) => type.trim())
  const inputTypes = input.type.split(',').map((type) => type.trim())
  if ([...receivedTypes, ...inputTypes].some((type) => type === '*' || type.startsWith('COMFY_'))) return true
  return receivedTypes.some((type) => inputTypes.includes(type))
}

/** Checks a literal (unwrapped from `__value__`). Undefined when one worker may take it. */
export function checkLiteral(view: InputView, value: JsonNode, rules: CheckRules): Problem | undefined {
  if (isTooLong(value)) return undefined
  let first: Problem | undefined
  for (const { owner, input } of view.variants) {
    const found = checkVariant(view, owner, input, value, rules)
    if (found === undefined) return undefined
    first ??= found
  }
  return first
}

function checkVariant(
  view: InputView,
  owner: ClassInfo,
  input: InputInfo,
  node: JsonNode,
  rules: CheckRules,
): Problem | undefined {
  const coerced = coerce(input.type, node)
  if (coerced.kind === 'unsure') return undefined
  if (coerced.kind === 'fails') {
    return problem(
      'invalid_input_type',
      `Failed to convert an input value to a ${input.type} value`,
      `${view.name}, ${strNode(node)}, ${coerced.why}`,
      () => ({
        input_name: view.name,
        input_config: config(view),
        received_value: new RawJson(dumpsNode(node)),
        exception_message: coerced.why,
      }),
    )
  }
  if (!isPlain(owner, rules) || input.isFile) return undefined
  const { value } = coerced
  if (typeof value === 'bigint' || typeof value === 'number') {
    const isRanged = input.type === 'INT' || input.type === 'FLOAT'
    if (isRanged && input.min !== undefined && value < input.min) {
      return outOfRange('value_smaller_than_min', `smaller than min of ${strScalar(input.min)}`, view, value)
    }
    if (isRanged && input.max !== undefined && value > input.max) {
      return outOfRange('value_bigger_than_max', `bigger than max of ${strScalar(input.max)}`, view, value)
    }
  }
  return checkChoice(view, input, value, rules)
}

function outOfRange(type: string, how: string, view: InputView, value: bigint | number): Problem {
  return problem(type, `Value ${strScalar(value)} ${how}`, view.name, () => ({
    input_name: view.name,
    input_config: config(view),
    received_value: new RawJson(dumpsScalar(value)),
  }))
}

function checkChoice(view: InputView, input: InputInfo, value: PythonScalar, rules: CheckRules): Problem | undefined {
  const { choices } = input
  if (choices === undefined || choices.hasContainers || input.isMultiselect) return undefined
  if (!input.isListForm && rules.dialect !== '2026') return undefined
  const isListed =
    typeof value === 'string' ? spellingOf(choices, value) !== undefined : choices.others.has(choiceKey(value))
  if (isListed) return undefined

  const merged = mergedList(view)
  const isLong = merged.items.length > 20
  const list = isLong ? `(list of length ${merged.items.length})` : reprNode(merged)
  const found = problem(
    'value_not_in_list',
    'Value not in list',
    `${view.name}: '${strScalar(value)}' not in ${list}`,
    () => ({
      input_name: view.name,
      input_config: isLong ? null : config(view),
      received_value: new RawJson(dumpsScalar(value)),
    }),
  )
  return typeof value === 'string' ? { ...found, unlisted: value } : found
}

const mergedLists = new WeakMap<InputView, JsonArray>()

/** All workers' choices; kept because one wrong name may stand in thousands of nodes. */
function mergedList(view: InputView): JsonArray {
  const known = mergedLists.get(view)
  if (known) return known
  const [first] = view.variants
  const text = mergedChoicesText(
    first?.owner.text ?? '',
    view.variants.map(({ input }) => input),
  )
  const list = parseJson(text) as JsonArray // the text of an array that was parsed before, with entries added
  mergedLists.set(view, list)
  return list
}

/** The input's `[type, options]` as the first worker declares it, a combo with all workers' choices. */
function config(view: InputView): RawJson {
  const [first] = view.variants
  if (first === undefined) return new RawJson('[]')
  const { owner, input } = first
  const { choices, optionsSpan, typeSpan } = input
  const merged =
    choices === undefined
      ? ''
      : mergedChoicesText(
          owner.text,
          view.variants.map((variant) => variant.input),
        )
  const source = (span: { start: number; end: number }): string => {
    if (choices === undefined || choices.span.start < span.start || choices.span.end > span.end) {
      return owner.text.slice(span.start, span.end)
    }
    return owner.text.slice(span.start, choices.span.start) + merged + owner.text.slice(choices.span.end, span.end)
  }
  return new RawJson(`[${source(typeSpan)}, ${optionsSpan === undefined ? '{}' : source(optionsSpan)}]`)
}

/**
 * True when ComfyUI's own checks of ranges, lists and link types surely apply. A class may declare a check of its own that
 * replaces them (`VALIDATE_INPUTS`, execution.py, validate_inputs), which object_info does not show. In ComfyUI itself
 * these are loaders of input files (`Load…`) and some partner nodes; in packs it can be any class.
 */
function isPlain(owner: ClassInfo, rules: CheckRules): boolean {
  if (owner.pythonModule === 'nodes' || owner.pythonModule.startsWith('comfy_extras.')) {
    return !owner.name.startsWith('Load')
  }
  return owner.pythonModule.startsWith('custom_nodes.') && !rules.customNodesMayValidate
}

type Coerced = { kind: 'value'; value: PythonScalar } | { kind: 'fails'; why: string } | { kind: 'unsure' }

const UNSURE: Coerced = { kind: 'unsure' }

/** What Python's `int()` and `float()` make of a literal. Other types keep theirs; containers there are not judged. */
function coerce(type: string, node: JsonNode): Coerced {
  const value = scalarOf(node)
  if (type === 'INT' || type === 'FLOAT') {
    if (value === undefined) return refusesType(type, node.kind === 'array' ? 'list' : 'dict')
    if (value === null) return refusesType(type, 'NoneType')
    if (typeof value === 'boolean') return { kind: 'value', value: type === 'INT' ? BigInt(value) : Number(value) }
    if (typeof value === 'string') return type === 'INT' ? intOf(value) : floatOf(value)
    return type === 'INT' ? truncated(value) : widened(value)
  }
  return value === undefined ? UNSURE : { kind: 'value', value }
}

function refusesType(type: 'INT' | 'FLOAT', name: string): Coerced {
  const why =
    type === 'INT'
      ? `int() argument must be a string, a bytes-like object or a real number, not '${name}'`
      : `float() argument must be a string or a real number, not '${name}'`
  return { kind: 'fails', why }
}

function truncated(value: bigint | number): Coerced {
  if (typeof value === 'bigint') return { kind: 'value', value }
  if (Number.isNaN(value)) return { kind: 'fails', why: 'cannot convert float NaN to integer' }
  if (!Number.isFinite(value)) return { kind: 'fails', why: 'cannot convert float infinity to integer' }
  return { kind: 'value', value: BigInt(Math.trunc(value)) }
}

function widened(value: bigint | number): Coerced {
  const float = Number(value)
  const isTooLarge = typeof value === 'bigint' && !Number.isFinite(float)
  return isTooLarge ? { kind: 'fails', why: 'int too large to convert to float' } : { kind: 'value', value: float }
}

/** Python takes digits of every script and has its own set of white space: beyond plain ASCII we do not judge. */
const isPlainText = (text: string): boolean => text.length <= 4300 && /^[\t-\r -~]*$/.test(text)

function intOf(text: string): Coerced {
  if (!isPlainText(text)) return UNSURE
  const digits = text.trim()
  if (!/^[-+]?\d+(?:_\d+)*$/.test(digits)) {
    // CPython cuts the quoted text at 200 characters.
    return { kind: 'fails', why: `invalid literal for int() with base 10: ${reprScalar(text).slice(0, 200)}` }
  }
  const plain = digits.replaceAll('_', '')
  const magnitude = BigInt(plain.replace(/^[-+]/, ''))
  return { kind: 'value', value: plain.startsWith('-') ? -magnitude : magnitude }
}

const FLOAT = /^[-+]?(?:\d+(?:_\d+)*(?:\.(?:\d+(?:_\d+)*)?)?|\.\d+(?:_\d+)*)(?:[eE][-+]?\d+(?:_\d+)*)?$/

function floatOf(text: string): Coerced {
  if (!isPlainText(text)) return UNSURE
  const digits = text.trim()
  const special = /^([-+]?)(?:(inf|infinity)|nan)$/i.exec(digits)
  if (special) {
    const value = special[2] === undefined ? Number.NaN : Number.POSITIVE_INFINITY
    return { kind: 'value', value: special[1] === '-' ? -value : value }
  }
  if (!FLOAT.test(digits)) return { kind: 'fails', why: `could not convert string to float: ${reprScalar(text)}` }
  return { kind: 'value', value: Number(digits.replaceAll('_', '')) }
}

/** Errors repeat the value they refuse; one of this size is left to the worker's verdict. */
const isTooLong = (node: JsonNode): boolean => node.end - node.start > 65_536

function problem(type: string, message: string, details: string, extraInfo: () => Record<string, unknown>): Problem {
  return { message, details, json: () => dumpsPython({ type, message, details, extra_info: extraInfo() }) }
}
