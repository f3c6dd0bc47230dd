/** One `object_info` for the clients of many workers. */

import {
  type Choices,
  type ClassInfo,
  classText,
  distinctInfos,
  type InputInfo,
  type ObjectInfo,
  spellingOf,
} from './object-info.ts'
import { quotePython } from './python-json.ts'
import { applyEdits, type Edit } from './raw-json-edit.ts'

/**
 * The answer to `GET /object_info`: all classes in order of first appearance, combos with every worker's choices (the
 * first worker's first), everything else byte for byte from the first worker that has the class. Workers of one content
 * count once; when all are alike the text is theirs, unchanged. `{}` without workers.
 */
export function mergeObjectInfo(infos: readonly ObjectInfo[]): string {
  const [first, ...rest] = distinctInfos(infos)
  if (first === undefined) return '{}'
  if (rest.length === 0) return first.text

  const holders = holdersByClass([first, ...rest])
  const edits: Edit[] = []
  const added: string[] = []
  for (const [name, variants] of holders) {
    const own = first.classes.get(name)
    if (own) for (const edit of comboEdits(variants)) edits.push(edit)
    else added.push(`${quotePython(name)}: ${mergedText(variants)}`)
  }
  if (added.length > 0) {
    const end = first.text.lastIndexOf('}')
    const hasMembers = !/^\s*\{\s*\}\s*$/.test(first.text)
    edits.push({ start: end, end, text: `${hasMembers ? ', ' : ''}${added.join(', ')}` })
  }
  return applyEdits(first.text, edits)
}

/** The answer to `GET /object_info/{class}`: one class, merged in the same way, or `{}` when no worker has it. */
export function mergeClass(infos: readonly ObjectInfo[], classType: string): string {
  const variants = classVariants(distinctInfos(infos), classType)
  return variants.length === 0 ? '{}' : `{${quotePython(classType)}: ${mergedText(variants)}}`
}

/** The different definitions of a class, in order of the workers; equal ones once. */
export function classVariants(infos: readonly ObjectInfo[], classType: string): ClassInfo[] {
  const variants: ClassInfo[] = []
  for (const info of infos) addVariant(variants, info.classes.get(classType))
  return variants
}

function holdersByClass(infos: readonly ObjectInfo[]): Map<string, ClassInfo[]> {
  const holders = new Map<string, ClassInfo[]>()
  for (const info of infos) {
    for (const [name, classInfo] of info.classes) {
      const variants = holders.get(name)
      if (variants) addVariant(variants, classInfo)
      else holders.set(name, [classInfo])
    }
  }
  return holders
}

function addVariant(variants: ClassInfo[], candidate: ClassInfo | undefined): void {
  if (candidate === undefined) return
  const text = classText(candidate)
  if (!variants.some((known) => classText(known) === text)) variants.push(candidate)
}

function mergedText(variants: readonly ClassInfo[]): string {
  const first = variants[0] as ClassInfo // callers ask only for classes that a worker has
  const { start } = first.span
  const edits = comboEdits(variants).map((edit) => ({ ...edit, start: edit.start - start, end: edit.end - start }))
  return applyEdits(classText(first), edits)
}

/** Insertions into the first variant's text that add the other variants' choices. */
function comboEdits(variants: readonly ClassInfo[]): Edit[] {
  const [first, ...rest] = variants
  if (first === undefined || rest.length === 0) return []
  const edits: Edit[] = []
  for (const [name, input] of first.inputs) {
    if (input.choices === undefined) continue
    const missing = missingChoices(
      input.choices,
      rest.map((variant) => variant.inputs.get(name)),
    )
    if (missing.length === 0) continue
    const end = input.choices.span.end - 1
    edits.push({ start: end, end, text: `${isEmpty(input.choices) ? '' : ', '}${missing.join(', ')}` })
  }
  return edits
}

/** JSON texts of the choices that only the others list, in their order. */
function missingChoices(own: Choices, others: readonly (InputInfo | undefined)[]): string[] {
  const missing = new Map<string, string>()
  for (const other of others) {
    if (other?.choices === undefined) continue
    for (const choice of other.choices.strings) {
      const key = `s${choice.replaceAll('\\', '/')}`
      if (spellingOf(own, choice) === undefined && !missing.has(key)) missing.set(key, quotePython(choice))
    }
    for (const [key, text] of other.choices.others) {
      if (!own.others.has(key) && !missing.has(`o${key}`)) missing.set(`o${key}`, text)
    }
  }
  return [...missing.values()]
}

/** The JSON array of a combo's choices over all variants of its class, as `mergeClass` prints it. */
export function mergedChoicesText(text: string, inputs: readonly InputInfo[]): string {
  const choices = inputs[0]?.choices
  if (choices === undefined) return '[]'
  const own = text.slice(choices.span.start, choices.span.end)
  const missing = missingChoices(choices, inputs.slice(1))
  if (missing.length === 0) return own
  return `${own.slice(0, -1)}${isEmpty(choices) ? '' : ', '}${missing.join(', ')}]`
}

const isEmpty = ({ strings, others, hasContainers }: Choices): boolean =>
  strings.size + others.size === 0 && !hasContainers
