import { createHash, randomUUID } from 'node:crypto'
import { type BigIntStats, mkdirSync, rmSync } from 'node:fs'
import { type FileHandle, link, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { DiskFullError } from '../errors.ts'

/** Size and times of a file or folder. */
export interface UserFileInfo {
  /** Below the owner's folder, `/`-separated. */
  path: string
  sizeBytes: number
  /** Nanoseconds since the epoch. */
  modifiedNs: bigint
  /** What ComfyUI calls created: the last change of the entry, on Windows its birth. */
  createdNs: bigint
}

export interface UserEntry extends UserFileInfo {
  kind: 'file' | 'folder'
  name: string
}

export type OpenedFile = { kind: 'file'; info: UserFileInfo; handle: FileHandle } | { kind: 'folder' }

/** The disk cannot have a file of this name, or a folder is where the file would be. */
export class BadFileNameError extends Error {
  constructor(cause: unknown) {
    super('No file can have this name', { cause })
    this.name = new.target.name
  }
}

export interface UserFilesOptions {
  /** A folder of these files alone. */
  dir: string
  /** Writes all bytes; another one lets a test fill the disk. */
  writeAll?: (handle: FileHandle, bytes: Uint8Array) => Promise<void>
}

/** What a name can be to blame for. */
const BAD_NAME = new Set([
  'EEXIST',
  'EILSEQ',
  'EINVAL',
  'EISDIR',
  'ELOOP',
  'ENAMETOOLONG',
  'ENOENT',
  'ENOTDIR',
  'ENOTEMPTY',
  'ERR_INVALID_ARG_VALUE',
])
const MISSING = new Set([...BAD_NAME].filter((code) => code !== 'EISDIR' && code !== 'ENOTEMPTY'))
const DISK_FULL = new Set(['ENOSPC', 'EDQUOT'])
const IS_WINDOWS = process.platform === 'win32'
/** Where hard links are not to be had. */
const NO_LINKS = new Set(['ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EPERM', 'EXDEV'])

/**
 * The files of users (workflows, templates, `user.css`) on disk, each owner's in a folder of its own. Paths come from
 * `pathInside`. A file is there whole or not at all: it is written elsewhere and then gets its name. Throws
 * DiskFullError and BadFileNameError; other failures of the disk as they are.
 */
export class UserFiles {
  readonly #dir: string
  readonly #partialDir: string
  readonly #writeAll: (handle: FileHandle, bytes: Uint8Array) => Promise<void>

  constructor(options: UserFilesOptions) {
    this.#dir = options.dir
    this.#partialDir = join(options.dir, 'partial')
    this.#writeAll = options.writeAll ?? ((handle, bytes) => handle.writeFile(bytes))
    // What a former process did not finish.
    rmSync(this.#partialDir, { recursive: true, force: true })
    mkdirSync(this.#partialDir, { recursive: true })
  }

  /** Undefined when there is none. */
  async stat(owner: string, path: string): Promise<UserEntry | undefined> {
    try {
      return entryOf(path, await stat(this.#at(owner, path), { bigint: true }))
    } catch (error) {
      if (isOneOf(error, MISSING)) return undefined
      throw error
    }
  }

  /** Opens a file to be read; the caller closes it. Undefined when there is none. */
  async open(owner: string, path: string): Promise<OpenedFile | undefined> {
    let handle: FileHandle | undefined
    try {
      handle = await open(this.#at(owner, path), 'r')
      const stats = await handle.stat({ bigint: true })
      if (stats.isFile()) return { kind: 'file', info: infoOf(path, stats), handle }
    } catch (error) {
      await handle?.close()
      if (isOneOf(error, new Set(['EISDIR', 'EPERM']))) return { kind: 'folder' }
      if (isOneOf(error, MISSING)) return undefined
      throw error
    }
    await handle.close()
    return { kind: 'folder' }
  }

  /** What is in a folder, by path; with `recurse` also below it. What goes away meanwhile is left out. */
  async list(
    owner: string,
    path: string,
    { recurse, hidden }: { recurse: boolean; hidden: boolean },
  ): Promise<UserEntry[]> {
    const entries: UserEntry[] = []
    const folders = [path]
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      for (const name of await this.#namesIn(owner, folder)) {
        if (!hidden && name.startsWith('.')) continue
        const entry = await this.stat(owner, folder === '' ? name : `${folder}/${name}`)
        if (!entry) continue
        entries.push(entry)
        if (recurse && entry.kind === 'folder') folders.push(entry.path)
      }
    }
    return entries.toSorted((a, b) => (a.path < b.path ? -1 : 1))
  }

  /**
   * Writes a file, durably, and the folders above it. False when `overwrite` is false and there is something of that
   * name; of two such writes at the same moment one is true.
   */
  async write(
    owner: string,
    path: string,
    bytes: Uint8Array,
    options: { overwrite: boolean; modifiedMs?: number | undefined },
  ): Promise<boolean> {
    if (path === '') throw new BadFileNameError('the folder itself')
    if (!options.overwrite && (await this.stat(owner, path))) return false
    const partial = join(this.#partialDir, randomUUID())
    try {
      const handle = await open(partial, 'wx')
      try {
        await this.#writeAll(handle, bytes)
        if (options.modifiedMs !== undefined) await setModified(handle, options.modifiedMs)
        await handle.sync()
      } finally {
        await handle.close()
      }
      const target = this.#at(owner, path)
      await mkdir(dirname(target), { recursive: true })
      if (options.overwrite) await rename(partial, target)
      else return await nameNew(partial, target)
      return true
    } catch (error) {
      throw asWriteError(error)
    } finally {
      await unlink(partial).catch(() => undefined) // It has its name by now, or is not wanted.
    }
  }

  /** False when there is none. Throws BadFileNameError for a folder. */
  async remove(owner: string, path: string): Promise<boolean> {
    const entry = await this.stat(owner, path)
    if (!entry) return false
    if (entry.kind === 'folder') throw new BadFileNameError('a folder')
    try {
      await unlink(this.#at(owner, path))
      return true
    } catch (error) {
      if (isOneOf(error, MISSING)) return false
      throw error
    }
  }

  /**
   * Gives a file or folder another name; into a folder when one is at `to`. Answers `missing` when there is nothing at
   * `from`, and `exists` when `overwrite` is false and something is at `to`.
   */
  async move(
    owner: string,
    from: string,
    to: string,
    { overwrite }: { overwrite: boolean },
  ): Promise<'moved' | 'missing' | 'exists'> {
    const source = await this.stat(owner, from)
    if (!source) return 'missing'
    const there = await this.stat(owner, to)
    if (there && !overwrite) return 'exists'
    const path = there?.kind === 'folder' ? `${to}/${basename(from)}` : to
    if (path !== to && (await this.stat(owner, path))) throw new BadFileNameError('taken in that folder')
    try {
      const target = this.#at(owner, path)
      await mkdir(dirname(target), { recursive: true })
      if (overwrite || source.kind === 'folder') await rename(this.#at(owner, from), target)
      else {
        if (!(await nameNew(this.#at(owner, from), target))) return 'exists'
        await unlink(this.#at(owner, from)).catch(() => undefined) // Taken away by another call, or renamed.
      }
      return 'moved'
    } catch (error) {
      if (!(await this.stat(owner, from))) return 'missing'
      throw asWriteError(error)
    }
  }

  async #namesIn(owner: string, path: string): Promise<string[]> {
    try {
      return await readdir(this.#at(owner, path))
    } catch (error) {
      if (isOneOf(error, MISSING)) return []
      throw error
    }
  }

  #at(owner: string, path: string): string {
    // There it would name a stream within a file.
    if (IS_WINDOWS && path.includes(':')) throw Object.assign(new Error('a colon in a name'), { code: 'EINVAL' })
    // An owner is an opaque text, and a folder's name is not.
    const folder = createHash('sha256').update(owner).digest('hex').slice(0, 32)
    return join(this.#dir, folder, ...path.split('/'))
  }
}

const entryOf = (path: string, stats: BigIntStats): UserEntry => ({
  ...infoOf(path, stats),
  kind: stats.isDirectory() ? 'folder' : 'file',
  name: path.slice(path.lastIndexOf('/') + 1),
})

const infoOf = (path: string, stats: BigIntStats): UserFileInfo => ({
  path,
  sizeBytes: Number(stats.size),
  modifiedNs: stats.mtimeNs,
  createdNs: IS_WINDOWS ? stats.birthtimeNs : stats.ctimeNs,
})

async function setModified(handle: FileHandle, modifiedMs: number): Promise<void> {
  await handle.utimes(new Date(), new Date(modifiedMs))
}

/** Gives a whole file a name that nothing has. False when something has it. */
async function nameNew(file: string, target: string): Promise<boolean> {
  try {
    await link(file, target)
    return true
  } catch (error) {
    if (isOneOf(error, new Set(['EEXIST']))) return false
    if (!isOneOf(error, NO_LINKS)) throw error
  }
  if (await isThere(target)) return false
  await rename(file, target)
  return true
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

function asWriteError(error: unknown): unknown {
  if (isOneOf(error, DISK_FULL)) return new DiskFullError(error)
  return isOneOf(error, BAD_NAME) ? new BadFileNameError(error) : error
}

const isOneOf = (error: unknown, codes: ReadonlySet<string>): boolean =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.has(error.code)
