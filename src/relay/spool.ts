import { closeSync, mkdirSync, openSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'

export interface SpoolOptions {
  /** Belongs to this process alone; made when it is first needed. */
  dir: string
  /** Bytes on disk over all files. */
  maxBytes: number
  log: Pick<Logger, 'error'>
}

/** Where something stands in its file. */
export interface SpoolSpan {
  readonly offset: number
  readonly length: number
}

const FILE_NAME = /^held-\d+\.spool$/

/**
 * Files for messages that wait and are too large for memory, one per client. Leftovers of an earlier process are removed
 * at once. Writes are synchronous and never flushed to the disk itself: they reach the page cache, and what was written
 * is out of memory when the call returns, so the bound on memory is a strict one.
 */
export class Spool {
  readonly #options: SpoolOptions
  readonly #open = new Set<SpoolFile>()
  #bytes = 0
  #count = 0
  #silentUntil = 0
  /** One for all files: there may be ten thousands that are never written. */
  readonly #host: SpoolHost = {
    create: () => {
      mkdirSync(this.#options.dir, { recursive: true, mode: 0o700 })
      return join(this.#options.dir, `held-${this.#count++}.spool`)
    },
    reserve: (bytes) => {
      if (this.#bytes + bytes > this.#options.maxBytes) return this.#fail(new Error('The spool is full'))
      this.#bytes += bytes
      return true
    },
    release: (bytes) => {
      this.#bytes -= bytes
    },
    fail: (error) => {
      this.#fail(error)
    },
    opened: (file) => this.#open.add(file),
    closed: (file) => this.#open.delete(file),
  }

  constructor(options: SpoolOptions) {
    this.#options = options
    for (const name of namesIn(options.dir)) if (FILE_NAME.test(name)) rmSync(join(options.dir, name), { force: true })
  }

  /** A file that is made by its first write and removed when nothing in it is waited for any more. */
  file(): SpoolFile {
    return new SpoolFile(this.#host)
  }

  /** Removes all files; what was in them is lost. */
  close(): void {
    for (const file of this.#open) file.remove()
  }

  /** Once a minute, not once a message. */
  #fail(err: unknown): false {
    const now = performance.now()
    if (now < this.#silentUntil) return false
    this.#silentUntil = now + 60_000
    this.#options.log.error({ err }, 'the spool of held messages fails')
    return false
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return []
  }
}

interface SpoolHost {
  create(): string
  reserve(bytes: number): boolean
  release(bytes: number): void
  fail(error: unknown): void
  opened(file: SpoolFile): unknown
  closed(file: SpoolFile): unknown
}

export class SpoolFile {
  readonly #host: SpoolHost
  #handle: { fd: number; path: string } | undefined
  #end = 0
  #spans = 0

  constructor(host: SpoolHost) {
    this.#host = host
  }

  /** Undefined when the disk refuses or the spool is full. */
  write(bytes: Uint8Array): SpoolSpan | undefined {
    if (!this.#host.reserve(bytes.byteLength)) return undefined
    const span = { offset: this.#end, length: bytes.byteLength }
    try {
      this.#handle ??= this.#create()
      for (let done = 0; done < span.length; ) {
        done += writeSync(this.#handle.fd, bytes, done, span.length - done, span.offset + done)
      }
    } catch (error) {
      this.#host.release(span.length)
      this.#host.fail(error)
      if (this.#spans === 0) this.remove()
      return undefined
    }
    this.#end += span.length
    this.#spans++
    return span
  }

  /** Undefined when it cannot be read. */
  read(span: SpoolSpan): Buffer | undefined {
    if (this.#handle === undefined) return undefined
    const bytes = Buffer.allocUnsafe(span.length)
    try {
      for (let done = 0; done < span.length; ) {
        const count = readSync(this.#handle.fd, bytes, done, span.length - done, span.offset + done)
        if (count === 0) throw new Error('A spool file is shorter than it was written')
        done += count
      }
    } catch (error) {
      this.#host.fail(error)
      return undefined
    }
    return bytes
  }

  /** One span is not needed any more; each is released once. The file goes with the last of them. */
  release(): void {
    if (this.#spans > 0 && --this.#spans === 0) this.remove()
  }

  remove(): void {
    const handle = this.#handle
    if (handle === undefined) return
    this.#handle = undefined
    this.#host.release(this.#end)
    this.#end = 0
    this.#spans = 0
    this.#host.closed(this)
    try {
      closeSync(handle.fd)
      rmSync(handle.path, { force: true })
    } catch (error) {
      this.#host.fail(error)
    }
  }

  #create(): { fd: number; path: string } {
    const path = this.#host.create()
    const handle = { fd: openSync(path, 'wx+', 0o600), path }
    this.#host.opened(this)
    return handle
  }
}
