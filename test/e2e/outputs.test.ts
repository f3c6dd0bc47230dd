import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import { readPicture } from '../../src/verify/picture.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, type HistoryEntry, pictureGraph, submit } from '../support/comfy-client.ts'
import { loadGraph } from '../support/uploads.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

const imageOf = (entry: HistoryEntry) => {
  const image = Object.values(entry.outputs)[0]?.images?.[0]
  if (!image) throw new Error('no picture in history')
  return image
}

/** Our own mark of the content: the gateway serves it itself. */
const isCopied = async (url: string) => /^"[0-9a-f]{32}"$/.test((await fetch(url)).headers.get('etag') ?? '')

const colourAt = async (url: string) => readPicture(Buffer.from(await (await fetch(url)).arrayBuffer())).colour

const previewGraph = (colour: number) => ({
  '1': { class_type: 'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, color: colour } },
  '2': { class_type: 'PreviewImage', inputs: { images: ['1', 0] } },
})

describe('a finished picture', () => {
  it.each([
    ['output', pictureGraph({ colour: 9 })],
    ['temp', previewGraph(9)],
  ] as const)('of the type %s is served after its worker, process and disk, are gone', async (type, graph) => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    const { promptId } = await submit(url, { prompt: graph })
    const image = imageOf(await finished(url, promptId))
    expect(image.type).toBe(type)
    const before = await fetch(image.url)
    const bytes = Buffer.from(await before.arrayBuffer())
    await until(() => isCopied(image.url))
    await workers[0]?.kill()
    workers[0]?.files.wipe()
    await until(() => gateway.workers()[0]?.state.kind === 'down')

    const whole = await fetch(image.url)
    expect(whole.status).toBe(200)
    expect(Buffer.from(await whole.arrayBuffer())).toEqual(bytes)
    for (const header of ['content-type', 'content-disposition', 'content-length', 'x-content-type-options']) {
      expect(whole.headers.get(header), header).toBe(before.headers.get(header))
    }
    const part = await fetch(image.url, { headers: { range: 'bytes=-5' } })
    expect([part.status, Buffer.from(await part.arrayBuffer())]).toEqual([206, bytes.subarray(-5)])
    const same = await fetch(image.url, { headers: { 'if-none-match': whole.headers.get('etag') ?? '' } })
    expect(same.status).toBe(304)
    // By its bare name and its prompt, too.
    const query = new URLSearchParams({ filename: image.filename, type, prompt_id: promptId })
    expect((await fetch(`${url}/view?${query}`)).status).toBe(200)

    const removed = await fetch(`${url}/api/workers/${gateway.workers()[0]?.id}`, { method: 'DELETE' })
    expect(removed.ok).toBe(true)
    expect((await fetch(image.url)).status).toBe(200)
  })

  it('is served after a restart of the gateway, and not with a cache of 0 bytes', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'comfyfleet-'))
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }))
    const env = { STORE: 'sqlite', PORT: '0' }
    fleet = await buildTestGateway({ dataDir, env, workers: 1 })
    const image = imageOf(await finished(fleet.url, (await submit(fleet.url, { prompt: pictureGraph() })).promptId))
    await until(() => isCopied(image.url))
    await fleet.close() // The worker ends with it.
    const path = new URL(image.url).pathname + new URL(image.url).search
    fleet = await buildTestGateway({ dataDir, env, untilHealthy: false })
    expect((await fetch(`${fleet.url}${path}`)).status).toBe(200)
    await fleet.close()
    fleet = await buildTestGateway({ dataDir, env: { ...env, OUTPUT_CACHE_BYTES: '0' }, untilHealthy: false })
    expect((await fetch(`${fleet.url}${path}`)).status).toBe(502)
  })

  it('can be loaded by a later prompt when the worker that made it is gone', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers, gateway } = fleet
    const { promptId } = await submit(url, { prompt: pictureGraph({ colour: 5 }) })
    const image = imageOf(await finished(url, promptId))
    await until(() => isCopied(image.url))
    const maker = workers.find(({ ledger }) => ledger.runs.some((run) => run.promptId === promptId))
    await maker?.kill()
    await until(() => gateway.workers().some(({ state }) => state.kind === 'down'))
    const later = await submit(url, { prompt: loadGraph(`${image.subfolder}/${image.filename} [output]`) })
    expect(later.status).toBe(200)
    expect(await colourAt(imageOf(await finished(url, later.promptId)).url)).toBe(5)
  })

  it('keeps its picture when its worker starts again with an empty disk and gives the name once more', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    const old = imageOf(await finished(url, (await submit(url, { prompt: pictureGraph({ colour: 1 }) })).promptId))
    await until(() => isCopied(old.url))
    await workers[0]?.restart({ wipeDisk: true })
    await until(() => gateway.workers()[0]?.isUp)
    const fresh = imageOf(await finished(url, (await submit(url, { prompt: pictureGraph({ colour: 2 }) })).promptId))
    expect(fresh.filename).toBe(old.filename)
    await until(() => isCopied(fresh.url))
    expect([await colourAt(old.url), await colourAt(fresh.url)]).toEqual([1, 2])
  })
})
