/** What the relay carries to sockets, and how much each of it matters when not all can be kept. */

import { decodeFrame, encodeFrame, toLegacyFrame } from '../comfyui/frames.ts'
import { isExecutingNull, parseWorkerMessage, terminalTypeOf } from '../comfyui/protocol.ts'

/**
 * - `progress`, `progress_state`, `preview`: a later one of the same kind replaces it
 * - `executing`: all are kept while memory allows, since clients count from them which nodes ran
 * - `start`, `essential`: never dropped (`execution_start`, `executed`, errors, what ends a prompt)
 * - `result`: pictures that are output; never dropped, but may wait on disk
 * - `other`: kept in order while memory allows
 */
export type MessageKind =
  | 'progress'
  | 'progress_state'
  | 'preview'
  | 'executing'
  | 'start'
  | 'essential'
  | 'result'
  | 'other'

export interface RelayMessage {
  readonly kind: MessageKind
  /** A text frame, or a binary frame in the worker's form (1, 3 or 4). */
  readonly content: string | Uint8Array
}

const FRAME_TYPES: ReadonlySet<number> = new Set([1, 3, 4])
const TEXT_FRAME = 3

/**
 * A worker's text frame about a prompt that has not ended. Undefined for what only the gateway may say to a client:
 * `status`, `feature_flags`, and everything that ends a prompt.
 */
export function fromText(type: string, text: string): RelayMessage | undefined {
  switch (type) {
    case 'status':
    case 'feature_flags':
    case 'execution_success':
    case 'execution_interrupted':
      return undefined
    case 'execution_start':
      return { kind: 'start', content: text }
    case 'executed':
      return { kind: 'essential', content: text }
    case 'progress':
    case 'progress_state':
      return { kind: type, content: text }
    case 'executing': {
      const message = parseWorkerMessage(text)
      return message && !isExecutingNull(message) ? { kind: 'executing', content: text } : undefined
    }
    case 'execution_error': {
      // The error of a blocked node does not end its prompt; the others come when the prompt is stored as ended.
      const message = parseWorkerMessage(text)
      return message && terminalTypeOf(message) === undefined ? { kind: 'essential', content: text } : undefined
    }
    default:
      return { kind: 'other', content: text }
  }
}

/** A worker's binary frame. Undefined for types that clients do not know: some throw on them. */
export function fromFrame(bytes: Uint8Array, options: { isResult: boolean }): RelayMessage | undefined {
  if (bytes.byteLength < 4) return undefined
  const type = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0)
  if (!FRAME_TYPES.has(type)) return undefined
  // A small view can keep the whole chunk alive that it was read in, and held frames may live for minutes.
  const content = bytes.buffer.byteLength > 2 * bytes.byteLength ? Uint8Array.from(bytes) : bytes
  if (options.isResult) return { kind: 'result', content }
  return { kind: type === TEXT_FRAME ? 'other' : 'preview', content }
}

/** The frames still due when a prompt has ended, the terminal one last. */
export function fromFinal(messages: readonly string[]): RelayMessage[] {
  const own = messages.filter((text) => !isOwn(text))
  return own.map((text, index) => {
    const type = index === own.length - 1 ? undefined : parseWorkerMessage(text)?.type
    if (type === 'execution_start') return { kind: 'start', content: text }
    return (type === undefined ? undefined : fromText(type, text)) ?? { kind: 'essential', content: text }
  })
}

function isOwn(text: string): boolean {
  if (!/^\{\s*"type":\s*"(?:status|executing)"/.test(text)) return false
  const message = parseWorkerMessage(text)
  return message === undefined || message.type === 'status' || isExecutingNull(message)
}

/**
 * A binary frame for a socket that did not announce `supports_preview_metadata`. Undefined when it has no such form.
 * Copies the picture of a type 4 frame.
 */
export function legacyForm(bytes: Uint8Array): Uint8Array | undefined {
  const frame = decodeFrame(bytes)
  if (frame?.kind !== 'image-with-metadata') return frame && bytes
  const legacy = toLegacyFrame(frame)
  return legacy && encodeFrame(legacy)
}
