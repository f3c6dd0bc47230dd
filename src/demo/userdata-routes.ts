import { type Answer, empty, json, withBody } from './answers.ts'
import type { WorkerState } from './worker-state.ts'

/** What a gateway reads of a worker's user data: the listing of all, and one file. The rest is not imitated. */
export function listUserdata({ userdata }: WorkerState): Answer {
  const entries = [...userdata].map(([path, { bytes, modifiedS }]) => ({
    name: path.slice(path.lastIndexOf('/') + 1),
    path,
    type: 'file',
    size: bytes.length,
    modified: modifiedS,
  }))
  return json(entries)
}

/** `name` as the server has decoded it once; ComfyUI does so again when it has escapes left. */
export function readUserdata({ userdata }: WorkerState, name: string): Answer {
  const found = userdata.get(name.includes('%') ? decodeURIComponent(name) : name)
  return found ? withBody(200, 'application/octet-stream', found.bytes) : empty(404)
}
