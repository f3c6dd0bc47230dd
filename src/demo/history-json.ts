import type { HistoryEntry } from './engine.ts'
import type { PyDumpable, PyObject } from './py-json.ts'
import type { QueueItem } from './queue-heap.ts'
import { is2026, type WorkerState } from './worker-state.ts'

const SECRET_KEYS = ['auth_token_comfy_org', 'api_key_comfy_org']

/** The five elements of a prompt in `/queue` and history. Releases of 2025 show partner keys in the queue. */
export function queueTuple(state: WorkerState, item: QueueItem, { hidesKeys = is2026(state) } = {}): PyDumpable {
  let extraData: PyObject = item.extraData
  if (hidesKeys && SECRET_KEYS.some((key) => extraData.has(key))) {
    extraData = new Map([...extraData].filter(([key]) => !SECRET_KEYS.includes(key)))
  }
  return [item.number, item.promptId, item.prompt, extraData, [...item.outputs]]
}

/** One entry of `/history`. */
export function historyEntry(state: WorkerState, entry: HistoryEntry): PyDumpable {
  const meta = [...entry.outputs.keys()].map((nodeId): [string, PyDumpable] => [
    nodeId,
    { node_id: nodeId, display_node: nodeId, parent_node: null, real_node_id: nodeId },
  ])
  return {
    prompt: queueTuple(state, entry.item, { hidesKeys: true }),
    outputs: entry.outputs,
    status: historyStatus(entry),
    meta: new Map(meta),
  }
}

/** The `status` of a history entry. */
export const historyStatus = ({ outcome, messages }: HistoryEntry): PyDumpable => ({
  status_str: outcome === 'success' ? 'success' : 'error',
  completed: outcome === 'success',
  messages: messages.map(([type, data]) => [type, data]),
})
