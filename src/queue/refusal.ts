import { member, parseJson, stringValue } from '../comfyui/raw-json.ts'

/** What a worker's 400 says. */
export interface Refusal {
  /** Another worker may judge otherwise: it names a class, a choice or a file that only this one may lack. */
  isAboutWorker: boolean
  /** In words, for history and the prompt's log. */
  message: string
}

const WORKER_ERRORS = new Set(['value_not_in_list', 'custom_validation_failed'])
const WORKER_TYPES = new Set(['missing_node_type', 'invalid_prompt'])

/** Reads the body of a worker's 400 (untrusted: anything unknown is the prompt's own fault). */
export function readRefusal(text: string): Refusal {
  try {
    const root = parseJson(text)
    const error = member(root, 'error')
    const type = stringValue(member(error, 'type')) ?? ''
    const parts = [stringValue(member(error, 'message')), stringValue(member(error, 'details'))]
    let isAboutWorker = WORKER_TYPES.has(type)
    const nodes = member(root, 'node_errors')
    if (nodes?.kind === 'object') {
      for (const { key: nodeId, value } of nodes.members) {
        const errors = member(value, 'errors')
        if (errors?.kind !== 'array') continue
        for (const item of errors.items) {
          if (WORKER_ERRORS.has(stringValue(member(item, 'type')) ?? '')) isAboutWorker = true
          parts.push(
            `node ${nodeId}: ${stringValue(member(item, 'message')) ?? ''} (${stringValue(member(item, 'details')) ?? ''})`,
          )
        }
      }
    }
    return {
      isAboutWorker,
      message: parts
        .filter((part) => part)
        .join('; ')
        .slice(0, 2_000),
    }
  } catch {
    return { isAboutWorker: false, message: 'the worker refused it' }
  }
}
