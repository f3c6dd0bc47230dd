import { quotePython } from '../comfyui/python-json.ts'
import type { PromptRecord } from '../store/store.ts'

/** Frames and history entries that the gateway writes itself, for prompts that no worker brought to an end. */

/** Why the gateway ended a prompt: `exception_type` of its `execution_error`. */
export type FailureType =
  | 'worker_crashed'
  | 'too_many_attempts'
  | 'refused_by_worker'
  | 'paid_not_rerun'
  | 'worker_error'
  | 'input_lost'

export interface Failure {
  type: FailureType
  message: string
}

/** The frame of a message. */
export const frameOf = (type: string, dataJson: string): string => `{"type": ${quotePython(type)}, "data": ${dataJson}}`

export const startData = (promptId: string, at: number): string =>
  `{"prompt_id": ${quotePython(promptId)}, "timestamp": ${at}}`

export function errorData(promptId: string, failure: Failure, at: number): string {
  return (
    `{"prompt_id": ${quotePython(promptId)}, "node_id": "", "node_type": "", "executed": [], ` +
    `"exception_message": ${quotePython(`${failure.message}\n`)}, "exception_type": ${quotePython(failure.type)}, ` +
    `"traceback": [], "current_inputs": {}, "current_outputs": [], "timestamp": ${at}}`
  )
}

export const interruptedData = (promptId: string, at: number): string =>
  `{"prompt_id": ${quotePython(promptId)}, "node_id": "", "node_type": "", "executed": [], "timestamp": ${at}}`

/** ComfyUI's key order, as clients are shown it: a float when the client sent it. */
export function numberText(prompt: Pick<PromptRecord, 'number' | 'numberGiven'>): string {
  const text = String(prompt.number)
  // Large ones are printed with an exponent, which makes a float by itself.
  return prompt.numberGiven && /^-?\d+$/.test(text) ? `${text}.0` : text
}

/** `[number, id, graph, extra_data, outputs]`, as in queue and history. */
export function promptTuple(prompt: PromptRecord, parts: { graph: string; extraData: string }): string {
  const outputs = prompt.traits.outputs.map(quotePython).join(', ')
  return `[${numberText(prompt)}, ${quotePython(prompt.promptId)}, ${parts.graph}, ${parts.extraData}, [${outputs}]]`
}

/** A history entry without outputs, whose last message tells the end. */
export function endedEntry(
  prompt: PromptRecord,
  parts: { graph: string; extraData: string },
  messages: readonly (readonly [type: string, dataJson: string])[],
): string {
  const list = messages.map(([type, data]) => `[${quotePython(type)}, ${data}]`).join(', ')
  return (
    `{"prompt": ${promptTuple(prompt, parts)}, "outputs": {}, ` +
    `"status": {"status_str": "error", "completed": false, "messages": [${list}]}, "meta": {}}`
  )
}
