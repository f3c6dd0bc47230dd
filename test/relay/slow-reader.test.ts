import { once } from 'node:events'
import { request } from 'node:http'
import type { Socket } from 'node:net'
import { describe, expect, it, vi } from 'vitest'
import { encodeFrame } from '../../src/comfyui/frames.ts'
import { aPrompt, promptEvents, startRelay } from './relay-app.ts'

const MB = 1_000_000
const jpeg = (size: number): Buffer =>
  encodeFrame({ kind: 'image', imageType: 'image/jpeg', image: Buffer.alloc(size) })
const png = (size: number, fill = 0): Buffer =>
  encodeFrame({ kind: 'image', imageType: 'image/png', image: Buffer.alloc(size, fill) })

/** A client on a bare TCP connection, which reads only while it is resumed. */
async function connectRaw(port: number, clientId: string): Promise<Socket> {
  const upgrade = request({
    port,
    host: '127.0.0.1',
    path: `/ws?clientId=${clientId}`,
    headers: {
      connection: 'upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    },
  })
  upgrade.end()
  const [, socket] = (await once(upgrade, 'upgrade')) as [unknown, Socket]
  socket.on('error', () => {})
  return socket
}

describe('a reader that does not read', () => {
  it('loses previews, is closed with 1013, and costs others nothing', async () => {
    const app = await startRelay({ bufferBytes: MB, stallMs: 300 })
    const slow = await connectRaw(app.port, 'slow')
    slow.pause()
    const quick = await app.connect('clientId=quick')
    const forSlow = promptEvents(app.events, aPrompt('s', 'slow'))
    const forQuick = promptEvents(app.events, aPrompt('q', 'quick'))
    for (const prompt of [forSlow, forQuick]) {
      prompt.admitted()
      prompt.start()
    }
    const rounds = 300
    for (let round = 0; round < rounds; round++) {
      forSlow.frame(jpeg(200_000), false)
      forSlow.progress(round)
      forQuick.progress(round)
      await quick.until((frames) => frames.length >= round + 4)
    }
    forQuick.finished()
    await quick.untilTold('executing q:null')
    expect(quick.plot.filter((line) => line.startsWith('progress'))).toHaveLength(rounds)

    await vi.waitFor(
      () => expect(app.sockets().some((socket) => socket.readyState === socket.CLOSING)).toBe(true),
      10_000,
    )
    // Only now does it read what was on its way.
    let received = 0
    let tail = Buffer.alloc(0)
    slow.on('data', (chunk: Buffer) => {
      received += chunk.length
      tail = Buffer.concat([tail, chunk]).subarray(-64)
    })
    slow.resume()
    await vi.waitFor(() => expect(tail.toString('latin1')).toContain('reader too slow'), 10_000)
    slow.destroy()
    // What the kernel holds for both sides comes on top of our own quarter of a megabyte.
    expect(received).toBeLessThan(20 * MB)
  })

  it('does not keep another socket of its client from the end', async () => {
    const app = await startRelay({ bufferBytes: MB, stallMs: 60_000 })
    const slow = await connectRaw(app.port, 'c')
    slow.pause()
    const quick = await app.connect('clientId=c')
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    for (let number = 0; number < 6; number++) prompt.frame(png(5 * MB, number), true)
    prompt.finished()
    await quick.untilTold('executing p:null')
    expect(quick.frames.filter((frame) => typeof frame !== 'string')).toHaveLength(6)
    slow.destroy()
  })

  it('gets the latest progress and the end when it reads again in time', async () => {
    const app = await startRelay({ bufferBytes: MB, stallMs: 60_000 })
    const slow = await connectRaw(app.port, 'slow')
    slow.pause()
    const prompt = promptEvents(app.events, aPrompt('s', 'slow'))
    prompt.admitted()
    prompt.start()
    for (let round = 0; round < 300; round++) {
      prompt.frame(jpeg(200_000), false)
      prompt.progress(round)
      await new Promise(setImmediate)
    }
    prompt.executed('9')
    prompt.finished()
    const chunks: Buffer[] = []
    let tail = ''
    slow.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      tail = (tail + chunk.toString('latin1')).slice(-2_000)
    })
    slow.resume()
    await vi.waitFor(() => expect(tail).toContain('{"node": null, "prompt_id": "s"}'), { timeout: 10_000 })
    const bytes = Buffer.concat(chunks)
    expect(bytes.length).toBeLessThan(20 * MB)
    for (const text of ['"value":299,', '"executed"', '"execution_success"']) {
      expect(bytes.indexOf(text), text).toBeGreaterThan(0)
    }
    slow.destroy()
    await vi.waitFor(() => expect(app.relay.clientCount).toBe(0))
  })
})

describe('a reader that reads', () => {
  it('is not closed for results that are larger than the buffer, and gets each of them', async () => {
    const app = await startRelay({ bufferBytes: MB, stallMs: 5_000, holdBytes: 4 * MB })
    const sockets = [await app.connect('clientId=c'), await app.connect('clientId=c')]
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    for (let number = 0; number < 8; number++) {
      prompt.frame(png(5 * MB, number), true)
      prompt.executed(String(number))
    }
    prompt.finished()
    const [first] = sockets
    await first?.untilTold('executing p:null')
    const pictures = first?.frames.filter((frame): frame is Buffer => typeof frame !== 'string') ?? []
    expect(pictures.map((picture) => [picture.length, picture[100]])).toEqual(
      Array.from({ length: 8 }, (_, number) => [5 * MB + 8, number]),
    )
    expect(first?.plot.filter((line) => line.startsWith('executed'))).toHaveLength(8)
  })
})
