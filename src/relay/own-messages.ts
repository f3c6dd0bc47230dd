/** The frames that the gateway writes itself, as Python's `json.dumps` would: `{"type": ` first, a space behind colons. */

import { dumpsPython } from '../comfyui/python-json.ts'

/** How many prompts remain. `sid` only in the first frame of a socket: clients adopt it as their client id. */
export const statusText = (queueRemaining: number, sid?: string): string =>
  dumpsPython({ type: 'status', data: { status: { exec_info: { queue_remaining: queueRemaining } }, sid } })

/** The last frame of a prompt. */
export const executingNullText = (promptId: string): string =>
  dumpsPython({ type: 'executing', data: { node: null, prompt_id: promptId } })

/** The answer to a client's `feature_flags`. */
export const featureFlagsText = (features: object): string => dumpsPython({ type: 'feature_flags', data: features })
