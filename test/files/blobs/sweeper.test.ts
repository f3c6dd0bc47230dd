import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { expect, it, onTestFinished } from 'vitest'
import { openDiskBlobs } from '../../../src/files/blobs/disk.ts'
import { createBlobSweeper } from '../../../src/files/blobs/sweeper.ts'

async function blobsIn() {
  const folder = await mkdtemp(join(tmpdir(), 'comfyfleet-sweep-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const blobs = await openDiskBlobs({ folder })
  const put = (text: string) => blobs.put(Readable.from([Buffer.from(text)]), { maxBytes: 100 })
  return { blobs, put }
}

it('removes what nobody uses at two passes in a row, and nothing that is used', async () => {
  const { blobs, put } = await blobsIn()
  const [used, unused, usedAgain] = [await put('used'), await put('unused'), await put('used again')]
  const inUse = new Set([used.hash])
  const sweeper = createBlobSweeper({ blobs, isUsed: async (hash) => inUse.has(hash), untouchedMs: 0 })
  const { signal } = new AbortController()
  expect(await sweeper.sweep(signal)).toEqual({ removed: 0, bytes: 0 })
  inUse.add(usedAgain.hash)
  expect(await sweeper.sweep(signal)).toEqual({ removed: 1, bytes: 'unused'.length })
  expect(await blobs.open(unused.hash)).toBeUndefined()
  for (const { hash } of [used, usedAgain]) expect(await blobs.open(hash)).toBeDefined()
})

it('leaves alone what was put a moment ago', async () => {
  const { blobs, put } = await blobsIn()
  const { hash } = await put('fresh')
  const sweeper = createBlobSweeper({ blobs, isUsed: async () => false, untouchedMs: 60_000 })
  for (let pass = 0; pass < 3; pass++) expect((await sweeper.sweep(new AbortController().signal)).removed).toBe(0)
  expect(await blobs.open(hash)).toBeDefined()
})
