import { afterEach, describe, expect, it } from 'vitest'
import { readPicture } from '../../src/verify/picture.ts'
import { SocketClient } from '../relay/socket-client.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { finished, type HistoryEntry, pictureGraph, submit } from '../support/comfy-client.ts'

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

const view = (url: string, image: { filename: string; subfolder: string; type: string }, more = '') =>
  fetch(
    `${url}/view?${new URLSearchParams({ filename: image.filename, subfolder: image.subfolder, type: image.type })}${more}`,
  )

const pictureAt = async (response: Response) => {
  expect(response.status).toBe(200)
  return readPicture(Buffer.from(await response.arrayBuffer()))
}

describe('outputs with the same name on every worker', () => {
  it('shows the right picture for each of 400 prompts on 4 workers', { timeout: 60_000 }, async () => {
    fleet = await buildTestGateway({ workers: 4 })
    const { url, workers } = fleet
    const wanted = new Map<string, number>()
    for (let n = 0; n < 400; n += 20) {
      const batch = Array.from({ length: 20 }, (_, k) => submit(url, { prompt: pictureGraph({ colour: 1 + n + k }) }))
      for (const [k, { status, promptId }] of (await Promise.all(batch)).entries()) {
        expect(status).toBe(200)
        wanted.set(promptId, 1 + n + k)
      }
    }
    let wrong = 0
    const names = new Set<string>()
    for (const [promptId, colour] of wanted) {
      const image = imageOf(await finished(url, promptId))
      names.add(image.filename)
      const byName = await pictureAt(await view(url, image))
      const byUrl = await pictureAt(await fetch(image.url))
      if (byName.colour !== colour || byUrl.colour !== colour) wrong++
    }
    expect(wrong).toBe(0)
    // The names did collide, and every worker had its part.
    expect(names.size).toBeLessThan(400)
    for (const worker of workers) expect(worker.ledger.runs.length).toBeGreaterThan(50)
  })

  it('finds a picture whose folder was lost on the way by its prompt, or as the newest of that name', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url } = fleet
    const first = await submit(url, { prompt: pictureGraph({ colour: 1 }) })
    const image = imageOf(await finished(url, first.promptId))
    const second = await submit(url, { prompt: pictureGraph({ colour: 2 }) })
    expect(imageOf(await finished(url, second.promptId)).filename).toBe(image.filename)
    const bare = { ...image, subfolder: '' }
    expect((await pictureAt(await view(url, bare, `&prompt_id=${first.promptId}`))).colour).toBe(1)
    expect((await pictureAt(await view(url, bare, `&prompt_id=${second.promptId}`))).colour).toBe(2)
    expect((await pictureAt(await view(url, bare))).colour).toBe(2)
  })

  it('serves a picture as soon as its node is told to be done', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    const { promptId } = await submit(url, { prompt: pictureGraph({ colour: 7 }), client_id: 'c' })
    await client.untilTold(`executed ${promptId}:2`)
    const frame = client.frames.find((each) => typeof each === 'string' && each.includes('"executed"')) as string
    const image = JSON.parse(frame).data.output.images[0]
    expect((await pictureAt(await view(url, image))).colour).toBe(7)
    await client.leave()
  })

  it("never shows another picture under an old link after a worker's disk was wiped", async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    const old = imageOf(await finished(url, (await submit(url, { prompt: pictureGraph({ colour: 1 }) })).promptId))
    await workers[0]?.restart({ wipeDisk: true })
    await until(() => gateway.workers()[0]?.isUp)
    const fresh = imageOf(await finished(url, (await submit(url, { prompt: pictureGraph({ colour: 2 }) })).promptId))
    expect(fresh.filename).toBe(old.filename)
    expect(fresh.subfolder).not.toBe(old.subfolder)
    expect((await pictureAt(await view(url, fresh))).colour).toBe(2)
    expect((await view(url, old)).status).toBe(404)
  })

  it('gives a cached node the name it gave out before', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const first = imageOf(await finished(url, (await submit(url, { prompt: pictureGraph({ colour: 1 }) })).promptId))
    const again = imageOf(await finished(url, (await submit(url, { prompt: pictureGraph({ colour: 1 }) })).promptId))
    expect(again).toEqual(first)
    const other = imageOf(await finished(url, (await submit(url, { prompt: pictureGraph({ colour: 2 }) })).promptId))
    expect(other.subfolder).toBe(first.subfolder)
  })

  it('answers Range and If-None-Match as ComfyUI does', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const image = imageOf(await finished(url, (await submit(url, { prompt: pictureGraph() })).promptId))
    const whole = await view(url, image)
    const bytes = Buffer.from(await whole.arrayBuffer())
    const part = await fetch(image.url, { headers: { range: 'bytes=0-9' } })
    expect([part.status, part.headers.get('content-range')]).toEqual([206, `bytes 0-9/${bytes.length}`])
    expect(Buffer.from(await part.arrayBuffer())).toEqual(bytes.subarray(0, 10))
    const same = await fetch(image.url, { headers: { 'if-none-match': whole.headers.get('etag') ?? '' } })
    expect(same.status).toBe(304)
  })
})
