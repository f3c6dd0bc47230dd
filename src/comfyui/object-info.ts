/** A worker's `GET /object_info`, reduced to what placement and the local check ask. */

import { createHash } from 'node:crypto'
import { pythonNumber, reprScalar, scalarOf } from './python-json.ts'
import {
  type JsonNode,
  type JsonObject,
  JsonSyntaxError,
  member,
  membersOf,
  type ParseOptions,
  parseJson,
  stringValue,
} from './raw-json.ts'

/** Where something stands in `ObjectInfo.text`. */
export interface TextSpan {
  readonly start: number
  readonly end: number
}

export interface InputInfo {
  readonly kind: 'required' | 'optional' | 'hidden'
  /** `COMBO` for both forms of a list; `?` for what is no type that we know how to read. */
  readonly type: string
  /** The list itself stands where the type would be (the older form, whose choices every release checks). */
  readonly isListForm: boolean
  readonly choices?: Choices
  /** bigint where Python has an int, number where it has a float. */
  readonly min?: bigint | number
  readonly max?: bigint | number
  /** The value names a file or folder that can appear at any moment (`image_upload`, `image_folder`, `remote`, …). */
  readonly isFile: boolean
  readonly isMultiselect: boolean
  readonly isLazy: boolean
  readonly forceInput: boolean
  readonly rawLink: boolean
  readonly typeSpan: TextSpan
  readonly optionsSpan?: TextSpan
}

/** The entries of a combo. */
export interface Choices {
  readonly strings: ReadonlySet<string>
  /** Numbers, booleans and null by `choiceKey`, with their JSON text. */
  readonly others: ReadonlyMap<string, string>
  /** Entries that are lists or objects: such a combo can refuse nothing. */
  readonly hasContainers: boolean
  /** Normalised to `/`, for the entries that a Windows worker spells with `\`. */
  readonly slashed: ReadonlyMap<string, string>
  /** The array, brackets included. */
  readonly span: TextSpan
}

export interface ClassInfo {
  readonly name: string
  /** The class's own JSON object in `text`. */
  readonly span: TextSpan
  /** The whole answer that `span` and all spans of the inputs point into. */
  readonly text: string
  readonly isOutputNode: boolean
  /** A paid partner node. */
  readonly isApiNode: boolean
  /** Where Python found the class: `nodes`, `comfy_extras.…`, `custom_nodes.…`; empty when not said. */
  readonly pythonModule: string
  /** Required first, then optional, then hidden; the first of a name counts, as in ComfyUI. */
  readonly inputs: ReadonlyMap<string, InputInfo>
  /** Type of each output; undefined where it is no string (a list of choices as a type). */
  readonly outputs: readonly (string | undefined)[]
  readonly outputIsList: readonly boolean[]
}

export interface ObjectInfo {
  /** sha256 of the text, hex: workers of equal content share one object. */
  readonly hash: string
  readonly text: string
  readonly classes: ReadonlyMap<string, ClassInfo>
}

/** The hash under which a text would be kept, to skip reducing what is known. */
export const objectInfoHash = (text: string): string => createHash('sha256').update(text).digest('hex')

/**
 * Reduces a worker's answer. Throws JsonSyntaxError (or its kin) when the text is no JSON object; classes and inputs of a
 * shape that ComfyUI does not have are kept with what can be read of them.
 */
export function reduceObjectInfo(text: string, options: ParseOptions = {}): ObjectInfo {
  const root = parseJson(text, options)
  if (root.kind !== 'object') throw new JsonSyntaxError('object_info is not an object', root.start)
  const classes = new Map<string, ClassInfo>()
  for (const [name, node] of membersOf(root)) {
    if (node.kind === 'object') classes.set(name, readClass(name, node, text))
  }
  return { hash: objectInfoHash(text), text, classes }
}

function readClass(name: string, node: JsonObject, text: string): ClassInfo {
  const inputs = new Map<string, InputInfo>()
  const input = member(node, 'input')
  for (const kind of ['required', 'optional', 'hidden'] as const) {
    const group = member(input, kind)
    if (group?.kind !== 'object') continue
    for (const [inputName, config] of membersOf(group)) {
      if (!inputs.has(inputName)) inputs.set(inputName, readInput(kind, config))
    }
  }
  const outputs = member(node, 'output')
  const isList = member(node, 'output_is_list')
  return {
    name,
    span: spanOf(node),
    text,
    isOutputNode: isTrue(member(node, 'output_node')),
    isApiNode: isTrue(member(node, 'api_node')),
    pythonModule: stringValue(member(node, 'python_module')) ?? '',
    inputs,
    outputs: outputs?.kind === 'array' ? outputs.items.map(stringValue) : [],
    outputIsList: isList?.kind === 'array' ? isList.items.map(isTrue) : [],
  }
}

function readInput(kind: InputInfo['kind'], config: JsonNode): InputInfo {
  // Hidden inputs are mostly a bare string, the others `[type]` or `[type, options]`.
  const [type = config, options] = config.kind === 'array' ? config.items : []
  const list = type.kind === 'array' ? type : member(options, 'options')
  const isListForm = type.kind === 'array' && type !== config
  const typeName = isListForm ? 'COMBO' : (stringValue(type) ?? '?')
  const choices = typeName === 'COMBO' && list?.kind === 'array' ? readChoices(list.items, spanOf(list)) : undefined
  const min = numberOf(member(options, 'min'))
  const max = numberOf(member(options, 'max'))
  return {
    kind,
    type: typeName,
    isListForm,
    ...(choices === undefined ? {} : { choices }),
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
    isFile: options?.kind === 'object' && options.members.some(({ key, value }) => namesFile(key, value)),
    isMultiselect: isTrue(member(options, 'multiselect')) || isTrue(member(options, 'multi_select')),
    isLazy: isTrue(member(options, 'lazy')),
    forceInput: isTrue(member(options, 'forceInput')),
    rawLink: isTrue(member(options, 'rawLink')),
    typeSpan: spanOf(type),
    ...(options === undefined ? {} : { optionsSpan: spanOf(options) }),
  }
}

function readChoices(items: readonly JsonNode[], span: TextSpan): Choices {
  const strings = new Set<string>()
  const others = new Map<string, string>()
  const slashed = new Map<string, string>()
  let hasContainers = false
  for (const item of items) {
    const value = scalarOf(item)
    if (value === undefined) hasContainers = true
    else if (typeof value === 'string') {
      strings.add(value)
      if (value.includes('\\')) slashed.set(slash(value), value)
    } else if (item.kind === 'number') others.set(choiceKey(value), item.text.slice(item.start, item.end))
    else others.set(choiceKey(value), String(value))
  }
  return { strings, others, hasContainers, slashed, span }
}

/** Equal for what Python calls equal: `1`, `1.0` and `True` are one entry. */
export function choiceKey(value: bigint | number | boolean | null): string {
  if (typeof value === 'boolean') return value ? '1' : '0'
  return reprScalar(typeof value === 'number' && Number.isInteger(value) ? BigInt(value) : value)
}

const slash = (name: string): string => name.replaceAll('\\', '/')

/** A combo's own spelling of a choice, or undefined when it does not list it. `\` and `/` are one. */
export function spellingOf(choices: Choices, value: string): string | undefined {
  if (choices.strings.has(value)) return value
  const slashed = slash(value)
  if (choices.strings.has(slashed)) return slashed
  return choices.slashed.get(slashed)
}

/**
 * The worker's own spelling of a choice, or undefined when it does not list it, has no such class, or the input is no
 * combo. `\` and `/` in names are one.
 */
export function listsChoice(info: ObjectInfo, classType: string, input: string, value: string): string | undefined {
  const choices = info.classes.get(classType)?.inputs.get(input)?.choices
  return choices && spellingOf(choices, value)
}

/** A class's own JSON object, byte for byte. */
export const classText = (info: ClassInfo): string => info.text.slice(info.span.start, info.span.end)

/** The first of each content, in order: what most of a fleet's workers share is then looked at once. */
export function distinctInfos(infos: readonly ObjectInfo[]): ObjectInfo[] {
  const seen = new Set<string>()
  return infos.filter(({ hash }) => !seen.has(hash) && seen.add(hash))
}

const spanOf = ({ start, end }: JsonNode): TextSpan => ({ start, end })

const isTrue = (node: JsonNode | undefined): boolean => node?.kind === 'literal' && node.value === true

const numberOf = (node: JsonNode | undefined): bigint | number | undefined =>
  node?.kind === 'number' ? pythonNumber(node) : undefined

const namesFile = (key: string, value: JsonNode): boolean =>
  (key.endsWith('_upload') || key === 'upload' || key === 'image_folder' || key === 'remote') &&
  !(value.kind === 'literal' && value.value !== true)
