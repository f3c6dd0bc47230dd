import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { beforeEach, describe, expect, it } from 'vitest'
import { type BlobStore, BlobTooLargeError } from '../../src/files/blobs/blobs.ts'

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
const maxBytes = 10_000_000

/** What every blob store does. `open` gives an empty one each time; `leftovers` are the names of unfinished files. */
export function blobStoreContract(
  name: string,
  open: () => Promise<{ blobs: BlobStore; leftovers(): Promise<readonly string[]> }>,
): void {
  describe(`${name} blob store`, () => {
    let blobs: BlobStore
    let leftovers: () => Promise<readonly string[]>
    beforeEach(async () => {
      const opened = await open()
      blobs = opened.blobs
      leftovers = opened.leftovers
    })

    const put = (bytes: Buffer, limit = maxBytes) => blobs.put(Readable.from([bytes]), { maxBytes: limit })
    const read = async (hash: string, range?: { start: number; end: number }) => {
      const blob = await blobs.open(hash)
      if (!blob) throw new Error('not there')
      return Buffer.concat(await blob.stream(range).toArray())
    }
    const all = async () => {
      const hashes: string[] = []
      for await (const { hash } of blobs.list()) hashes.push(hash)
      return hashes.toSorted()
    }

    it('gives back what it was given, whole or in part, by the hash of the content', async () => {
      const bytes = Buffer.from('some content')
      const before = Date.now() - 1_000
      const blob = await put(bytes)
      expect(blob).toEqual({ hash: hashOf(bytes), size: bytes.length })
      expect(await read(blob.hash)).toEqual(bytes)
      expect(await read(blob.hash, { start: 5, end: 7 })).toEqual(Buffer.from('con'))
      expect(await blobs.open(blob.hash)).toMatchObject({ hash: blob.hash, size: 12 })
      expect((await blobs.open(blob.hash))?.putAt).toBeGreaterThan(before)
    })

    it('keeps an empty file and a large one in many chunks', async () => {
      const empty = await blobs.put(Readable.from([]), { maxBytes: 0 })
      expect(await read(empty.hash)).toEqual(Buffer.alloc(0))
      const chunks = Array.from({ length: 300 }, (_, index) => Buffer.alloc(20_000, index))
      const large = await blobs.put(Readable.from(chunks), { maxBytes })
      expect(large).toEqual({ hash: hashOf(Buffer.concat(chunks)), size: 6_000_000 })
      expect((await read(large.hash)).equals(Buffer.concat(chunks))).toBe(true)
    })

    it('keeps the same content once, also when it comes several times at the same moment', async () => {
      const bytes = Buffer.from('again and again')
      const puts = await Promise.all(Array.from({ length: 10 }, () => put(bytes)))
      expect(new Set(puts.map(({ hash }) => hash))).toEqual(new Set([hashOf(bytes)]))
      expect(await all()).toEqual([hashOf(bytes)])
      expect(await read(hashOf(bytes))).toEqual(bytes)
    })

    it('refuses what is too large and leaves nothing of it', async () => {
      await expect(put(Buffer.alloc(101), 100)).rejects.toBeInstanceOf(BlobTooLargeError)
      expect((await put(Buffer.alloc(100), 100)).size).toBe(100)
      expect(await all()).toHaveLength(1)
      expect(await leftovers()).toEqual([])
    })

    it('leaves nothing of a source that breaks off, and says why it broke', async () => {
      async function* broken() {
        yield Buffer.from('half')
        throw new Error('the client has gone')
      }
      await expect(blobs.put(broken(), { maxBytes })).rejects.toThrow('the client has gone')
      expect(await all()).toEqual([])
      expect(await leftovers()).toEqual([])
    })

    it('knows nothing of what was never there, whatever the name', async () => {
      for (const hash of [hashOf(Buffer.from('x')), '', '../../etc/passwd', 'A'.repeat(64), 'temp']) {
        expect(await blobs.open(hash)).toBeUndefined()
        expect(await blobs.delete(hash)).toBe(false)
      }
    })

    it('deletes, lets a reader read to the end, and takes the content again', async () => {
      const bytes = Buffer.alloc(3_000_000, 'x')
      const { hash } = await put(bytes)
      const reader = (await blobs.open(hash))?.stream()
      if (!reader) throw new Error('not there')
      const [first] = (await reader.take(1).toArray()) as Buffer[]
      expect(first?.length).toBeGreaterThan(0)
      expect(await blobs.delete(hash)).toBe(true)
      expect(await blobs.delete(hash)).toBe(false)
      expect(await blobs.open(hash)).toBeUndefined()
      await put(bytes)
      expect((await read(hash)).equals(bytes)).toBe(true)
    })

    it('does not delete what was put a moment ago when asked not to', async () => {
      const { hash } = await put(Buffer.from('fresh'))
      expect(await blobs.delete(hash, { untouchedMs: 60_000 })).toBe(false)
      expect(await read(hash)).toEqual(Buffer.from('fresh'))
    })
  })
}
