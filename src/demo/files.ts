import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, posix, relative } from 'node:path'

export type FileArea = 'output' | 'input' | 'temp'

export const isFileArea = (value: string): value is FileArea =>
  value === 'output' || value === 'input' || value === 'temp'

export interface StoredFile {
  name: string
  bytes: Buffer
  modifiedMs: number
  etag: string
  contentHash: string
}

export interface FileStoreOptions {
  /** Oldest outputs go first when all files together are larger. */
  maxBytes: number
  /** Keeps output and input files here too, so they outlive the process. */
  folder?: string
}

/** The worker's disk: three areas with subfolders, and ComfyUI's counter of output names. */
export class FileStore {
  readonly #files = new Map<string, StoredFile>()
  readonly #counters = new Map<string, number>()
  readonly #maxBytes: number
  readonly #folder: string | undefined
  #totalBytes = 0
  #writes = 0
  /** Grows whenever the list of input files may have changed. */
  inputVersion = 0

  constructor({ maxBytes, folder }: FileStoreOptions) {
    this.#maxBytes = maxBytes
    this.#folder = folder
    if (folder !== undefined) this.#load(folder)
  }

  /** Stores under an already checked path; replaces what was there. */
  put(area: FileArea, subfolder: string, name: string, bytes: Buffer): StoredFile {
    const path = filePath(area, subfolder, name)
    this.#remove(path)
    const file = this.#remember(path, bytes)
    if (this.#folder !== undefined && area !== 'temp') {
      const target = join(this.#folder, path)
      mkdirSync(dirname(target), { recursive: true })
      writeFileSync(target, bytes)
    }
    this.#evict()
    return file
  }

  get(area: FileArea, subfolder: string, name: string): StoredFile | undefined {
    return this.#files.get(filePath(area, subfolder, name))
  }

  /** Names at the top of an area, sorted. */
  topLevel(area: FileArea): string[] {
    const names: string[] = []
    for (const path of this.#files.keys()) {
      const rest = path.startsWith(`${area}/`) ? path.slice(area.length + 1) : '/'
      if (!rest.includes('/')) names.push(rest)
    }
    return names.toSorted()
  }

  /** The number after the highest that is in use for `prefix_00001_.png` in that folder. */
  nextCounter(area: FileArea, subfolder: string, prefix: string): number {
    return (this.#counters.get(filePath(area, subfolder, prefix)) ?? 0) + 1
  }

  /** ComfyUI empties its temp folder at start. */
  clearTemp(): void {
    for (const path of [...this.#files.keys()]) if (path.startsWith('temp/')) this.#remove(path)
    for (const key of [...this.#counters.keys()]) if (key.startsWith('temp/')) this.#counters.delete(key)
  }

  /** A fresh disk: everything is gone and the counters start again. */
  wipe(): void {
    this.#files.clear()
    this.#counters.clear()
    this.#totalBytes = 0
    this.inputVersion += 1
    if (this.#folder === undefined) return
    for (const area of ['output', 'input']) rmSync(join(this.#folder, area), { recursive: true, force: true })
  }

  #remember(path: string, bytes: Buffer): StoredFile {
    this.#writes += 1
    const modifiedMs = Date.now()
    const stamp = BigInt(modifiedMs) * 1_000_000n + BigInt(this.#writes % 1_000_000)
    const file: StoredFile = {
      name: posix.basename(path),
      bytes,
      modifiedMs,
      etag: `"${stamp.toString(16)}-${bytes.length.toString(16)}"`,
      contentHash: createHash('sha256').update(bytes).digest('hex'),
    }
    this.#files.set(path, file)
    this.#totalBytes += bytes.length
    if (path.startsWith('input/')) this.inputVersion += 1
    const counted = /^(.+)_(\d+)_\.\w+$/.exec(path)
    if (counted?.[1] !== undefined) {
      this.#counters.set(counted[1], Math.max(this.#counters.get(counted[1]) ?? 0, Number(counted[2])))
    }
    return file
  }

  #remove(path: string): void {
    const file = this.#files.get(path)
    if (!file) return
    this.#files.delete(path)
    this.#totalBytes -= file.bytes.length
  }

  #evict(): void {
    if (this.#totalBytes <= this.#maxBytes) return
    for (const path of this.#files.keys()) {
      if (this.#totalBytes <= this.#maxBytes) return
      if (!path.startsWith('input/')) this.#remove(path)
    }
  }

  #load(folder: string): void {
    for (const area of ['output', 'input']) {
      mkdirSync(join(folder, area), { recursive: true })
      for (const entry of readdirSync(join(folder, area), { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue
        const path = join(entry.parentPath, entry.name)
        this.#remember(relative(folder, path).split('\\').join('/'), readFileSync(path))
      }
    }
  }
}

/** `output/sub/name.png`; without a double slash when there is no subfolder. */
export const filePath = (area: FileArea, subfolder: string, name: string): string => posix.join(area, subfolder, name)

/** The subfolder in its shortest form, or undefined when it leaves its area. */
export function safeSubfolder(subfolder: string): string | undefined {
  const normal = posix.normalize(subfolder === '' ? '.' : subfolder.replaceAll('\\', '/'))
  if (normal.startsWith('..') || normal.startsWith('/') || normal.includes('\0')) return undefined
  return normal === '.' ? '' : normal.replace(/\/$/, '')
}

/** `name.png [temp]` names its own area; a plain name is in `fallback`. */
export function annotatedPath(value: string, fallback: FileArea): { area: FileArea; path: string } {
  const tag = /^(.*).\[(output|input|temp)\]$/s.exec(value)
  const area = tag?.[2]
  if (tag?.[1] === undefined || area === undefined || !isFileArea(area)) return { area: fallback, path: value }
  return { area, path: tag[1] }
}

/** Finds a file by `sub/name.png`, annotated or not. */
export function findAnnotated(files: FileStore, value: string, fallback: FileArea): StoredFile | undefined {
  const { area, path } = annotatedPath(value, fallback)
  const subfolder = safeSubfolder(posix.dirname(path))
  return subfolder === undefined ? undefined : files.get(area, subfolder, posix.basename(path))
}
