import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, renameSync, statSync, unlinkSync } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type BlobHash, type BlobStore, BlobTooLargeError, DiskFullError, isBlobHash } from './blobs.ts'

export interface DiskBlobsOptions {
  /** Made when it is missing; nothing else may write into it. */
  folder: string
  /** How a new file is opened; tests give one whose disk is full. */
  openFile?: (path: string) => Promise<Pick<FileHandle, 'write' | 'sync' | 'close'>>
}

const TEMP = 'temp'
/** What the system says when nothing more can be written: disk, quota, or largest file. */
const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/**
 * Blobs as files `aa/<hash>`. They are written under a temporary name and renamed when they are whole and on disk; what a
 * former process left half-written is removed here, so a folder belongs to one process.
 */
export async function openDiskBlobs({ folder, openFile = openNew }: DiskBlobsOptions): Promise<BlobStore> {
  const temp = join(folder, TEMP)
  await rm(temp, { recursive: true, force: true })
  await mkdir(temp, { recursive: true })
  const folderOf = (hash: BlobHash): string => join(folder, hash.slice(0, 2))
  const pathOf = (hash: BlobHash): string => join(folderOf(hash), hash)

  /** Writes all of it and answers its hash; the file is closed and on disk. */
  async function write(path: string, source: AsyncIterable<Uint8Array>, maxBytes: number) {
    const file = await openFile(path)
    const hash = createHash('sha256')
    let size = 0
    try {
      for await (const chunk of source) {
        size += chunk.length
        if (size > maxBytes) throw new BlobTooLargeError(maxBytes)
        hash.update(chunk)
        for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at)).bytesWritten
      }
      await file.sync()
    } finally {
      await file.close()
    }
    return { hash: hash.digest('hex'), size }
  }

  return {
    async put(source, { maxBytes }) {
      const path = join(temp, randomUUID())
      try {
        const blob = await write(path, source, maxBytes)
        await mkdir(folderOf(blob.hash), { recursive: true })
        // In one go with what `delete` does, so that of the two at the same moment the put is the later.
        renameSync(path, pathOf(blob.hash))
        await syncFolder(folderOf(blob.hash))
        return blob
      } catch (error) {
        await rm(path, { force: true })
        throw FULL.has(codeOf(error) ?? '') ? new DiskFullError(error) : error
      }
    },

    async open(hash) {
      if (!isBlobHash(hash)) return undefined
      const path = pathOf(hash)
      const found = await stat(path).catch(absent)
      if (!found?.isFile()) return undefined
      const stream = (range?: { start: number; end: number }) => createReadStream(path, range ?? {})
      return { hash, size: found.size, putAt: found.mtimeMs, stream }
    },

    async delete(hash, { untouchedMs = 0 } = {}) {
      if (!isBlobHash(hash)) return false
      try {
        if (untouchedMs > 0 && Date.now() - statSync(pathOf(hash)).mtimeMs < untouchedMs) return false
        unlinkSync(pathOf(hash))
        return true
      } catch (error) {
        return absent(error) ?? false
      }
    },

    async *list() {
      for (const part of await readdir(folder)) {
        if (!/^[0-9a-f]{2}$/.test(part)) continue
        for (const hash of await readdir(join(folder, part))) {
          const found = isBlobHash(hash) ? await stat(pathOf(hash)).catch(absent) : undefined
          if (found?.isFile()) yield { hash, size: found.size, putAt: found.mtimeMs }
        }
      }
    },
  }
}

const openNew = (path: string): Promise<FileHandle> => open(path, 'wx', 0o600)

/** A rename is on disk when its folder is. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return // Folders cannot be opened there.
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

function absent(error: unknown): undefined {
  if (codeOf(error) !== 'ENOENT') throw error
  return undefined
}

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
