import type { Readable } from 'node:stream'
import { HttpError } from '../../errors.ts'

/** SHA-256 of the content, lower-case hex. */
export type BlobHash = string

export interface StoredBlob {
  hash: BlobHash
  /** Bytes. */
  size: number
}

/** A blob that is there. */
export interface OpenBlob extends StoredBlob {
  /** Milliseconds since the epoch when it was last put. */
  putAt: number
  /** The bytes from `start` to `end`, both included; all of them by default. The caller reads or destroys it. */
  stream(range?: { start: number; end: number }): Readable
}

/**
 * Bytes by their content: the same content is kept once, whoever brings it. Knows nothing of who uses a blob; whoever
 * deletes has made sure that nobody does.
 */
export interface BlobStore {
  /**
   * Keeps what the source gives; durable when it resolves. A failure of any kind leaves nothing. Throws BlobTooLargeError
   * after `maxBytes`, DiskFullError, and what the source throws.
   */
  put(source: AsyncIterable<Uint8Array>, options: { maxBytes: number }): Promise<StoredBlob>
  /** Undefined when it is not there. What is being read stays readable to its end when it is deleted meanwhile. */
  open(hash: BlobHash): Promise<OpenBlob | undefined>
  /**
   * False when there was none, or when it was put less than `untouchedMs` ago: its use may not be written down yet. A put
   * of the same content at the same moment wins.
   */
  delete(hash: BlobHash, options?: { untouchedMs?: number }): Promise<boolean>
  /** All that are there, in no order; what comes and goes meanwhile may be missing. */
  list(): AsyncIterable<StoredBlob & { putAt: number }>
}

export const isBlobHash = (text: string): boolean => /^[0-9a-f]{64}$/.test(text)

/** More bytes than `put` was told to take. */
export class BlobTooLargeError extends Error {
  constructor(maxBytes: number) {
    super(`more than ${maxBytes} bytes`)
    this.name = 'BlobTooLargeError'
  }
}

/** There is no room for a file. Nothing of it was kept. */
export class DiskFullError extends HttpError {
  constructor(cause: unknown) {
    super(507, 'disk_full', 'There is no room left for this file', { cause })
  }
}
