import { listsChoice, type ObjectInfo } from '../comfyui/object-info.ts'
import type { PromptTraits } from './traits.ts'

/** A worker as placement sees it. */
export interface Placeable {
  readonly id: string
  /** Undefined until it was asked. */
  readonly info: ObjectInfo | undefined
}

export interface Placement<T> {
  /** Workers that can run it, up or not. */
  able: readonly T[]
  /** Why there is none. */
  reason: string | undefined
}

/**
 * The workers that can run a prompt: those that have every class, hold the files it is bound to, and list its choices.
 * A choice that no worker lists restricts nothing: it may be valid in a way that object_info does not tell.
 */
export function placementOf<T extends Placeable>(workers: readonly T[], traits: PromptTraits): Placement<T> {
  if (workers.length === 0) return { able: [], reason: 'there is no worker' }
  let able = workers.filter((worker) => worker.info !== undefined)
  if (able.length === 0) return { able, reason: 'no worker has told what it can run' }
  if (traits.pinnedWorkerIds.length > 0) {
    able = able.filter((worker) => traits.pinnedWorkerIds.includes(worker.id))
    if (able.length === 0)
      return { able, reason: 'the worker that it is bound to, or that has its input file, is gone' }
  }
  for (const classType of traits.classTypes) {
    able = able.filter((worker) => worker.info?.classes.has(classType))
    if (able.length === 0) return { able, reason: `no worker has all its nodes (${classType})` }
  }
  const everyone = workers.filter((worker) => worker.info !== undefined)
  for (const { classType, input, value } of traits.combos) {
    const lists = (worker: T): boolean =>
      worker.info !== undefined && listsChoice(worker.info, classType, input, value) !== undefined
    if (!everyone.some(lists)) continue
    able = able.filter(lists)
    if (able.length === 0) return { able, reason: `no worker has all it names (${value})` }
  }
  return { able, reason: undefined }
}
