import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { DiskFullError } from '../../../src/files/blobs/blobs.ts'
import { openDiskBlobs } from '../../../src/files/blobs/disk.ts'
import { blobStoreContract } from '../../contracts/blobs.ts'
import { until } from '../../support/app.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'comfyfleet-blobs-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

blobStoreContract('disk', async () => ({
  blobs: await openDiskBlobs({ folder }),
  leftovers: () => readdir(join(folder, 'temp')),
}))

describe('disk blob store and its disk', () => {
  it('answers 507 when the disk is full, keeps nothing of the file, and goes on when there is room', async () => {
    let room = 1_000
    const blobs = await openDiskBlobs({
      folder,
      openFile: async (path) => {
        const file = await open(path, 'wx')
        const write = async (chunk: Uint8Array, at: number) => {
          if (room === 0) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
          const written = await file.write(chunk, at, Math.min(room, chunk.length - at))
          room -= written.bytesWritten
          return written
        }
        return { write: write as typeof file.write, sync: () => file.sync(), close: () => file.close() }
      },
    })
    const put = blobs.put(Readable.from([Buffer.alloc(5_000)]), { maxBytes: 10_000 })
    await expect(put).rejects.toBeInstanceOf(DiskFullError)
    await expect(put).rejects.toMatchObject({ status: 507, type: 'disk_full' })
    expect(await readdir(folder, { recursive: true })).toEqual(['temp'])
    room = 10_000
    expect((await blobs.put(Readable.from([Buffer.alloc(5_000)]), { maxBytes: 10_000 })).size).toBe(5_000)
  })

  it('removes at start what a killed process left half-written, and nothing else', async () => {
    const child = spawn(
      process.execPath,
      [
        '--import',
        'tsx',
        '--input-type=module',
        '-e',
        `import { openDiskBlobs } from ${JSON.stringify(new URL('../../../src/files/blobs/disk.ts', import.meta.url).href)}
         const blobs = await openDiskBlobs({ folder: ${JSON.stringify(folder)} })
         await blobs.put((async function* () { yield Buffer.from('whole') })(), { maxBytes: 100 })
         await blobs.put((async function* () {
           yield Buffer.from('half')
           process.stdout.write('half')
           await new Promise((resolve) => setTimeout(resolve, 60_000))
         })(), { maxBytes: 100 })`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    onTestFinished(() => void child.kill('SIGKILL'))
    await saidHalf(child)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await readdir(join(folder, 'temp'))).toHaveLength(1)

    const blobs = await openDiskBlobs({ folder })
    expect(await readdir(join(folder, 'temp'))).toEqual([])
    const sizes: number[] = []
    for await (const { size } of blobs.list()) sizes.push(size)
    expect(sizes).toEqual([5])
  })

  it('lists no file that is not a blob', async () => {
    const blobs = await openDiskBlobs({ folder })
    const { hash } = await blobs.put(Readable.from([Buffer.from('x')]), { maxBytes: 1 })
    await writeFile(join(folder, hash.slice(0, 2), 'notes.txt'), 'not a blob')
    const listed: string[] = []
    for await (const blob of blobs.list()) listed.push(blob.hash)
    expect(listed).toEqual([hash])
  })
})

async function saidHalf(child: ChildProcess): Promise<void> {
  let said = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  await until(() => said.includes('half'))
}
