import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import { readPicture } from '../../src/verify/picture.ts'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { png, upload, uploadForm } from '../support/uploads.ts'

interface Exchange {
  request: { path: string; body?: string }
  response: { status: number; headers: Record<string, string>; text?: string; base64?: string }
}
const { situations }: { situations: { name: string; http: Exchange[] }[] } = JSON.parse(
  readFileSync(new URL('../fixtures/comfyui-0.3.64.json', import.meta.url), 'utf8'),
)
const exchangesOf = (name: string) => situations.find((each) => each.name === name)?.http ?? []

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

const post = (url: string, form: { headers: Record<string, string>; body: Buffer | string }, route = '/upload/image') =>
  fetch(`${url}${route}`, { method: 'POST', headers: form.headers, body: form.body })

const view = (url: string, query: Record<string, string>, headers: Record<string, string> = {}) =>
  fetch(`${url}/view?${new URLSearchParams(query)}`, { headers })

const blobsIn = async (dataDir: string) =>
  (await readdir(join(dataDir, 'blobs'), { recursive: true })).filter((name) => name.length > 10)

describe('uploads answer as the recorded ComfyUI', () => {
  it.each(['', '/api'])('byte for byte, under "%s"', async (prefix) => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    let count = 0
    for (const [index, { request, response }] of exchangesOf('uploads').entries()) {
      const [, filename, fields] = /^multipart: image=(\S*) (.*)$/.exec(request.body ?? '') ?? []
      if (filename === undefined) continue
      const form = uploadForm(filename, png(index === 2 ? 2 : 1), JSON.parse(fields ?? '{}'))
      const answer = await post(url, form, `${prefix}${request.path}`)
      const given = Buffer.from(await answer.arrayBuffer())
      expect([answer.status, given.toString()], request.body).toEqual([response.status, response.text])
      for (const header of ['content-type', 'content-length']) {
        expect(answer.headers.get(header) ?? undefined, `${header} of ${request.body}`).toBe(response.headers[header])
      }
      count++
    }
    expect(count).toBe(11)
  })

  it('shows an upload with the headers of the recorded /view, in parts and not again', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const recorded = exchangesOf('view').find(({ request }) => request.path.includes('u.png'))
    const bytes = Buffer.from(recorded?.response.base64 ?? '', 'base64')
    await upload(url, 'u.png', bytes, { subfolder: 'a/b' })
    const query = { filename: 'u.png', type: 'input', subfolder: 'a/b' }
    const whole = await view(url, query)
    expect(Buffer.from(await whole.arrayBuffer())).toEqual(bytes)
    for (const header of ['content-type', 'content-length', 'content-disposition', 'accept-ranges']) {
      expect(whole.headers.get(header), header).toBe(recorded?.response.headers[header])
    }
    expect(whole.headers.get('x-content-type-options')).toBe('nosniff')
    const etag = whole.headers.get('etag') ?? ''
    const modified = whole.headers.get('last-modified') ?? ''
    expect(etag).toMatch(/^"[0-9a-f]{32}"$/)

    for (const [range, status, part, contentRange] of [
      ['bytes=0-9', 206, bytes.subarray(0, 10), 'bytes 0-9/72'],
      ['bytes=70-', 206, bytes.subarray(70), 'bytes 70-71/72'],
      ['bytes=-3', 206, bytes.subarray(-3), 'bytes 69-71/72'],
      ['bytes=60-900', 206, bytes.subarray(60), 'bytes 60-71/72'],
      ['bytes=72-', 416, Buffer.alloc(0), 'bytes */72'],
      ['lines=1-2', 200, bytes, null],
    ] as const) {
      const answer = await view(url, query, { range })
      expect([range, answer.status, answer.headers.get('content-range')]).toEqual([range, status, contentRange])
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(Buffer.from(part))
    }
    expect((await view(url, query, { range: 'bytes=0-9', 'if-range': '"another"' })).status).toBe(200)
    expect((await view(url, query, { range: 'bytes=0-9', 'if-range': etag })).status).toBe(206)
    for (const header of [
      { 'if-none-match': etag },
      { 'if-none-match': '"x", *' },
      { 'if-modified-since': modified },
    ]) {
      const answer = await view(url, query, header)
      expect([answer.status, await answer.text()]).toEqual([304, ''])
    }
    expect((await view(url, query, { 'if-none-match': '"x"', 'if-modified-since': modified })).status).toBe(200)
    const head = await fetch(`${url}/view?${new URLSearchParams(query)}`, { method: 'HEAD' })
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '72', ''])
  })
})

describe('uploads', () => {
  it('get one name each when they come at the same moment with different content', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const answers = await Promise.all(Array.from({ length: 12 }, (_, n) => upload(url, 'x.png', png(n))))
    expect(new Set(answers.map(({ name }) => name)).size).toBe(12)
    for (const [n, { name }] of answers.entries()) {
      const shown = await view(url, { filename: name, type: 'input' })
      expect(readPicture(Buffer.from(await shown.arrayBuffer())).colour).toBe(n)
    }
    const again = await Promise.all(answers.map((_, n) => upload(url, 'x.png', png(n))))
    expect(again).toEqual(answers)
  })

  it('keep their own name with overwrite, and the last content counts', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    for (const colour of [1, 2, 3]) {
      expect(await upload(url, 'x.png', png(colour), { overwrite: '1' })).toEqual({
        name: 'x.png',
        subfolder: '',
        type: 'input',
      })
    }
    expect(
      readPicture(Buffer.from(await (await view(url, { filename: 'x.png', type: 'input' })).arrayBuffer())).colour,
    ).toBe(3)
  })

  it('are served as what their ending says, and made harmless where a browser would run them', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    for (const [name, type, saved] of [
      ['clip.mp4', 'video/mp4', false],
      ['sound.flac', 'audio/flac', false],
      ['Grün "1".PNG', 'image/png', false],
      ['page.html', 'application/octet-stream', true],
      ['drawing.svg', 'application/octet-stream', true],
      ['unknown', 'application/octet-stream', false],
    ] as const) {
      const { name: given } = await upload(url, name.replaceAll('"', '\\"'), Buffer.from(`content of ${name}`))
      const answer = await view(url, { filename: given, type: 'input' })
      expect([name, answer.headers.get('content-type')]).toEqual([name, type])
      expect(answer.headers.get('content-disposition')?.startsWith('attachment')).toBe(saved)
      expect(await answer.text()).toBe(`content of ${name}`)
    }
  })

  it.each([
    ['../x.png', '', 400],
    ['..\\x.png', '', 400],
    ['/etc/x.png', '', 400],
    ['C:\\x.png', '', 400],
    ['x.png', '/etc', 400],
    ['x.png', 'a/../../b', 400],
    ['x.png', '..\\..', 400],
    ['x\0.png', '', 500],
    ['x.png', 'a\0b', 500],
    [`${'x'.repeat(300)}.png`, '', 500],
    ['folder/', '', 500],
    ['..', 'a', 500],
    ['x.png', 'a/../b', 200],
    ['../x.png', 'a', 200],
  ])('of the name %j in the folder %j are answered with %i', async (filename, subfolder, status) => {
    fleet = await buildTestGateway({ workers: 1 })
    const answer = await post(fleet.url, uploadForm(filename, png(1), { subfolder }))
    expect([answer.status, await answer.text()]).toEqual([
      status,
      status === 400
        ? ''
        : status === 500
          ? '500 Internal Server Error\n\nServer got itself in trouble'
          : `{"name": "${filename}", "subfolder": "${subfolder}", "type": "input"}`,
    ])
  })

  it('without a file, or that are no form, are refused as ComfyUI does', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const mark = { 'content-type': 'multipart/form-data; boundary=m' }
    const field = (name: string, value: string) =>
      `--m\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n--m--\r\n`
    for (const [form, status] of [
      [{ headers: mark, body: field('overwrite', 'true') }, 400],
      [{ headers: mark, body: field('image', 'a text') }, 500],
      [{ headers: { 'content-type': 'application/json' }, body: '{}' }, 400],
      [{ headers: { 'content-type': 'multipart/form-data' }, body: 'x' }, 500],
      [{ headers: mark, body: 'no form at all' }, 500],
    ] as const) {
      const answer = await post(url, form)
      expect([form.body, answer.status]).toEqual([form.body, status])
    }
  })

  it('answer 413 above the limit, said or not, and keep nothing', async () => {
    fleet = await buildTestGateway({ workers: 1, env: { MAX_BODY_BYTES: '100000' } })
    const { url } = fleet
    const form = uploadForm('x.png', Buffer.alloc(100_001))
    expect((await post(url, form)).status).toBe(413)
    const chunked = await fetch(`${url}/upload/image`, {
      method: 'POST',
      headers: form.headers,
      body: new Blob([form.body]).stream(),
      duplex: 'half',
    } as RequestInit)
    expect(chunked.status).toBe(413)
    expect(((await chunked.json()) as { error: { type: string } }).error.type).toBe('body_too_large')
    expect((await upload(url, 'x.png', Buffer.alloc(90_000))).name).toBe('x.png')
    expect((await view(url, { filename: 'x.png', type: 'input' })).headers.get('content-length')).toBe('90000')
  })

  it('of a client that hangs up in the middle leave nothing', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'comfyfleet-'))
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }))
    fleet = await buildTestGateway({ workers: 1, dataDir })
    const { port, hostname } = new URL(fleet.url)
    const form = uploadForm('x.png', Buffer.alloc(500_000))
    const socket = connect(Number(port), hostname)
    socket.write(
      `POST /upload/image HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Type: ${form.headers['content-type']}\r\nContent-Length: ${form.body.length}\r\n\r\n`,
    )
    socket.write(form.body.subarray(0, 300_000))
    await until(async () => (await readdir(join(dataDir, 'blobs', 'temp'))).length === 1)
    socket.destroy()
    await until(async () => (await readdir(join(dataDir, 'blobs', 'temp'))).length === 0)
    expect(await blobsIn(dataDir)).toEqual([])
  })

  it('outlive a restart of the gateway', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'comfyfleet-'))
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }))
    const options = { dataDir, env: { STORE: 'sqlite' }, untilHealthy: false }
    fleet = await buildTestGateway(options)
    await upload(fleet.url, 'x.png', png(5))
    await fleet.close()
    fleet = await buildTestGateway(options)
    const shown = await view(fleet.url, { filename: 'x.png', type: 'input' })
    expect(readPicture(Buffer.from(await shown.arrayBuffer())).colour).toBe(5)
  })

  it('are listed among the files that a prompt can name', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    await upload(url, 'x.png', png(1), { subfolder: 'a' })
    await upload(url, 'x.png', png(1), { type: 'temp' })
    const files = async (type: string) => (await fetch(`${url}/internal/files/${type}`)).json()
    expect([await files('input'), await files('temp'), await files('output')]).toEqual([['a/x.png'], ['x.png'], []])
  })
})

describe('masks and other views of an upload', () => {
  it('are made by a worker from the upload, and kept under the name of the mask', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    await upload(url, 'u.png', png(1))
    const ref = JSON.stringify({ filename: 'u.png', type: 'input' })
    const mask = await upload(
      url,
      'm.png',
      png(9),
      { original_ref: ref, subfolder: 'clipspace' },
      { route: '/upload/mask' },
    )
    expect(mask).toEqual({ name: 'm.png', subfolder: 'clipspace', type: 'input' })
    const shown = await view(url, { filename: 'm.png', subfolder: 'clipspace', type: 'input' })
    expect(readPicture(Buffer.from(await shown.arrayBuffer())).colour).toBe(9)
    // No worker has anything among its own inputs.
    for (const worker of workers) expect(worker.files.topLevel('input')).toEqual([])
    const next = await upload(
      url,
      'm.png',
      png(8),
      { original_ref: ref, subfolder: 'clipspace' },
      { route: '/upload/mask' },
    )
    expect(next.name).toBe('m (1).png')
  })

  it('work on a file that a worker has, and write nothing when there is none', async () => {
    fleet = await buildTestGateway({ workers: 2 })
    const { url, workers } = fleet
    workers[1]?.files.put('input', '', 'own.png', png(3))
    for (const [filename, status] of [
      ['own.png', 200],
      ['nowhere.png', 404],
      ['../../etc/passwd', 404],
    ] as const) {
      const ref = JSON.stringify({ filename, type: 'input' })
      const name = `mask of ${status} ${filename.length}.png`
      expect(await upload(url, name, png(4), { original_ref: ref }, { route: '/upload/mask' })).toMatchObject({ name })
      expect((await view(url, { filename: name, type: 'input' })).status).toBe(status)
    }
  })

  it('need a worker', async () => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url, workers, gateway } = fleet
    await upload(url, 'u.png', png(1))
    const preview = await view(url, { filename: 'u.png', type: 'input', preview: 'webp;50' })
    expect([preview.status, preview.headers.get('content-type')]).toEqual([200, 'image/webp'])
    expect(preview.headers.get('content-disposition')).toBe('filename="u.png"')
    expect((await view(url, { filename: 'u.png', type: 'input', channel: 'rgba' })).headers.get('etag')).toMatch(
      /^"[0-9a-f]{32}"$/,
    )
    await workers[0]?.kill()
    await until(() => gateway.workers().every(({ state }) => state.kind !== 'healthy'))
    const form = uploadForm('m.png', png(1), { original_ref: '{"filename": "u.png", "type": "input"}' })
    expect((await post(url, form, '/upload/mask')).status).toBe(503)
    expect((await view(url, { filename: 'u.png', type: 'input', preview: 'webp' })).status).toBe(503)
    expect((await view(url, { filename: 'u.png', type: 'input' })).status).toBe(200)
  })
})
