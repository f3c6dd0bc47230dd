import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { startUserdata } from './userdata-app.ts'

interface Exchange {
  request: { method: string; path: string; body?: string }
  response: { status: number; headers: Record<string, string>; text?: string }
}

const { situations }: { situations: { name: string; http: Exchange[] }[] } = JSON.parse(
  readFileSync(new URL('../../fixtures/comfyui-0.3.64.json', import.meta.url), 'utf8'),
)
const OURS = /^\/(users|settings|userdata|v2\/userdata)/
/** Two clocks never agree: times are compared by their form. */
const withoutTimes = (text: string | undefined) => text?.replace(/\d{10}\.\d{5,7}(?=[,}])/g, '<seconds>')

const recorded = ['server state', 'userdata and settings'].flatMap((name) =>
  (situations.find((each) => each.name === name)?.http ?? []).filter(({ request }) => OURS.test(request.path)),
)

describe('user data as a recorded ComfyUI answers', () => {
  it.each(['', '/api'])('byte for byte, under the prefix "%s"', async (prefix) => {
    const app = await startUserdata()
    expect(recorded).toHaveLength(18)
    for (const { request, response } of recorded) {
      const answer = await app.ask(request.method, prefix + request.path, request.body)
      const what = `${request.method} ${request.path}`
      expect([what, answer.statusCode]).toEqual([what, response.status])
      const { etag, 'last-modified': modified, 'content-length': length, ...exact } = response.headers
      expect(answer.headers, what).toMatchObject(exact)
      expect(answer.headers['content-type'], what).toBe(exact['content-type'])
      // The digits of a time may be fewer by chance.
      if (withoutTimes(response.text) === response.text) expect(answer.headers['content-length'], what).toBe(length)
      if (etag) expect(answer.headers.etag).toMatch(/^"[0-9a-f]{16}-8"$/)
      if (modified) expect(answer.headers['last-modified']).toMatch(/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/)
      expect(withoutTimes(answer.body), what).toBe(withoutTimes(response.text ?? ''))
    }
  })
})

describe('files of a user', () => {
  it('come back byte by byte, whatever they are and whatever type they are sent as', async () => {
    const app = await startUserdata()
    const bytes = Buffer.from([0, 255, 13, 10, 128])
    const headers = { 'content-type': 'multipart/form-data; boundary=x' }
    expect((await app.post('/userdata/templates%2Fa%20b%2Fx.bin', bytes, headers)).body).toBe('"templates/a b/x.bin"')
    const answer = await app.get('/api/userdata/templates%2Fa%20b%2Fx.bin')
    expect(answer.rawPayload).toEqual(bytes)
    expect((await app.post('/userdata/empty.json', Buffer.alloc(0))).statusCode).toBe(200)
    expect((await app.get('/userdata/empty.json')).headers['content-length']).toBe('0')
    const head = await app.ask('HEAD', '/userdata/templates%2Fa%20b%2Fx.bin')
    expect([head.statusCode, head.headers['content-length'], head.body]).toEqual([200, '5', ''])
  })

  it('have names in any script, twice encoded if a client does so', async () => {
    const app = await startUserdata()
    expect((await app.post('/userdata/%E7%8C%AB.json', '1')).body).toBe('"\\u732b.json"')
    expect((await app.get('/userdata/%25E7%258C%25AB.json')).body).toBe('1')
    expect((await app.post('/userdata/100%25.json', '2')).body).toBe('"100%.json"')
    expect((await app.get('/userdata/100%25.json')).body).toBe('2')
    expect((await app.get('/v2/userdata')).json().map(({ name }: { name: string }) => name)).toEqual([
      '100%.json',
      '猫.json',
    ])
  })

  it('are saved and not opened by a browser, but for the style sheet', async () => {
    const app = await startUserdata()
    for (const name of ['x.html', 'x.svg', 'x.js', 'sub%2Fuser.css', 'x.json', 'user.css']) {
      await app.post(`/userdata/${name}`, '<script>alert(1)</script>')
      const { headers } = await app.get(`/userdata/${name}`)
      expect(headers['x-content-type-options']).toBe('nosniff')
      const expected =
        name === 'user.css'
          ? [undefined, 'text/css']
          : ['attachment', name === 'x.json' ? 'application/json' : 'application/octet-stream']
      expect([headers['content-disposition'], headers['content-type']]).toEqual(expected)
    }
  })

  it('are answered in part, or not at all to those who have them', async () => {
    const app = await startUserdata()
    await app.post('/userdata/a.txt', '0123456789')
    const whole = await app.get('/userdata/a.txt')
    const part = async (range: string, more: Record<string, string> = {}) => {
      const answer = await app.get('/userdata/a.txt', { range, ...more })
      return [answer.statusCode, answer.body, answer.headers['content-range']]
    }
    expect(await part('bytes=2-4')).toEqual([206, '234', 'bytes 2-4/10'])
    expect(await part('bytes=-3')).toEqual([206, '789', 'bytes 7-9/10'])
    expect(await part('bytes=8-')).toEqual([206, '89', 'bytes 8-9/10'])
    expect(await part('bytes=10-')).toEqual([416, '', 'bytes */10'])
    expect(await part('bytes=4-2')).toEqual([200, '0123456789', undefined])
    expect(await part('bytes=2-4', { 'if-range': '"other"' })).toEqual([200, '0123456789', undefined])
    const { etag } = whole.headers
    expect((await app.get('/userdata/a.txt', { 'if-none-match': `"x", W/${etag}` })).statusCode).toBe(304)
    expect(
      (await app.get('/userdata/a.txt', { 'if-modified-since': String(whole.headers['last-modified']) })).statusCode,
    ).toBe(304)
    await app.post('/userdata/a.txt', 'changed')
    expect((await app.get('/userdata/a.txt', { 'if-none-match': String(etag) })).body).toBe('changed')
  })

  it('are listed by folder, without hidden ones in the first form of the listing', async () => {
    const app = await startUserdata()
    for (const name of ['w/b.json', 'w/A/c.json', 'w/A/.hid', '.index.json', 'w/.x/y.json']) {
      await app.post(`/userdata/${encodeURIComponent(name)}`, '{}')
    }
    const listed = async (query: string) => (await app.get(`/userdata?${query}`)).json()
    expect(await listed('dir=w')).toEqual(['b.json'])
    expect(await listed('dir=w%2F&recurse=TRUE')).toEqual(['A/c.json', 'b.json'])
    expect(await listed('dir=w&recurse=true&split=true')).toEqual([
      ['A/c.json', 'A', 'c.json'],
      ['b.json', 'b.json'],
    ])
    expect(await listed('dir=w%2Fb.json')).toEqual([])
    const tree = (await app.get('/v2/userdata')).json()
    expect(tree.map(({ path }: { path: string }) => path)).toEqual([
      'w/.x',
      'w/A',
      'w',
      'w/A/.hid',
      '.index.json',
      'w/b.json',
      'w/A/c.json',
      'w/.x/y.json',
    ])
    expect(tree[0]).toEqual({ name: '.x', path: 'w/.x', type: 'directory' })
    for (const [url, status, text] of [
      ['/userdata?dir=nope', 404, 'Directory not found'],
      ['/v2/userdata?path=nope', 404, 'Requested path not found'],
      ['/v2/userdata?path=w%2Fb.json', 400, 'Requested path is not a directory'],
    ] as const) {
      const answer = await app.get(url)
      expect([answer.statusCode, answer.body]).toEqual([status, text])
    }
  })

  it('have times in the unit of the UI worker’s release', async () => {
    const before = Date.now()
    for (const version of ['0.3.64', '2026'] as const) {
      const app = await startUserdata({ worker: { version } })
      const written = (await app.post('/userdata/a.json?full_info=true', '{}')).json()
      expect(written).toMatchObject({ path: 'a.json', size: 2 })
      const unit = version === '2026' ? 1 : 1_000
      expect(Math.abs(written.modified * unit - before)).toBeLessThan(60_000)
      expect(Number.isInteger(written.modified)).toBe(version === '2026')
      expect((await app.get('/userdata?dir=.&full_info=true')).json()).toEqual([written])
      const [entry] = (await app.get('/v2/userdata')).json()
      expect(Math.abs(entry.modified * 1_000 - before)).toBeLessThan(60_000)
    }
  })

  it('move, also over another or into a folder, and never by accident', async () => {
    const app = await startUserdata()
    await app.post('/userdata/a.json', 'a')
    await app.post('/userdata/b.json', 'b')
    await app.post('/userdata/sub%2Fc.json', 'c')
    const move = async (from: string, to: string, query = '') => {
      const answer = await app.post(`/userdata/${from}/move/${to}${query}`, '')
      return [answer.statusCode, answer.body]
    }
    expect(await move('a.json', 'b.json', '?overwrite=false')).toEqual([409, 'File already exists'])
    expect(await move('nope.json', 'x.json')).toEqual([404, ''])
    expect(await move('a.json', 'new%2Fdeep%2Fa.json', '?overwrite=false')).toEqual([200, '"new/deep/a.json"'])
    expect(await move('new%2Fdeep%2Fa.json', 'b.json')).toEqual([200, '"b.json"'])
    expect((await app.get('/userdata/b.json')).body).toBe('a')
    expect(await move('b.json', 'sub')).toEqual([200, '"sub"'])
    expect((await app.get('/userdata/sub%2Fb.json')).body).toBe('a')
    expect(await move('sub', 'renamed')).toEqual([200, '"renamed"'])
    expect((await app.get('/userdata?dir=renamed')).json()).toEqual(['b.json', 'c.json'])
    expect((await move('renamed', 'renamed%2Finside'))[0]).toBe(500)
    expect((await app.ask('DELETE', '/userdata/renamed')).statusCode).toBe(500)
    expect((await app.ask('DELETE', '/userdata/nope')).statusCode).toBe(404)
  })

  it('belong to their owner', async () => {
    const app = await startUserdata()
    const [alice, bob] = [{ 'x-owner': 'alice' }, { 'x-owner': 'bob' }]
    await app.post('/userdata/a.json', 'alice', alice)
    await app.post('/settings/x', '1', alice)
    expect((await app.get('/userdata/a.json', { ...bob, 'comfy-user': 'alice' })).statusCode).toBe(404)
    expect((await app.get('/settings', bob)).body).toBe('{}')
    expect((await app.get('/users', bob)).json()).toEqual({ storage: 'server', migrated: false })
    expect((await app.get('/users', alice)).json()).toEqual({ storage: 'server', migrated: true })
    for (const url of ['/users', '/settings', '/userdata/a.json', '/v2/userdata']) {
      expect((await app.get(url, { ...alice, 'comfy-user': '__manager' })).statusCode).toBe(403)
    }
  })

  it('outlive the process', async () => {
    const app = await startUserdata()
    await app.post('/userdata/a.json', 'kept')
    await app.post('/settings/x', '[1.0]')
    await writeFile(join(app.dir, 'userdata', 'partial', 'left'), 'half')
    await app.restart()
    expect((await app.get('/userdata/a.json')).body).toBe('kept')
    expect((await app.get('/settings')).body).toBe('{"x": [1.0]}')
    expect(await app.onDisk()).toHaveLength(1)
  })

  it('are whole or not there when the disk is full, and the gateway goes on', async () => {
    let isFull = true
    const app = await startUserdata({
      writeAll: async (handle, bytes) => {
        await handle.writeFile(bytes.subarray(0, 2))
        if (isFull) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
        await handle.writeFile(bytes.subarray(2))
      },
    })
    const refused = await app.post('/userdata/w%2Fa.json', '{"x": 1}')
    expect([refused.statusCode, refused.json().error.type]).toEqual([507, 'disk_full'])
    expect(await app.onDisk()).toEqual([])
    isFull = false
    await app.post('/userdata/w%2Fa.json', '{"x": 1}')
    isFull = true
    expect((await app.post('/userdata/w%2Fa.json', 'other')).statusCode).toBe(507)
    expect((await app.get('/userdata/w%2Fa.json')).body).toBe('{"x": 1}')
    expect(await app.onDisk()).toHaveLength(1)
  })

  it('are given a new name to one of several that want it', async () => {
    const app = await startUserdata()
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) => app.post('/userdata/a.json?overwrite=false', String(index))),
    )
    const won = answers.flatMap(({ statusCode }, index) => (statusCode === 200 ? [index] : []))
    expect(won).toHaveLength(1)
    expect(answers.filter(({ statusCode }) => statusCode === 409)).toHaveLength(9)
    expect((await app.get('/userdata/a.json')).body).toBe(String(won[0]))
  })
})

describe('names that lead elsewhere', () => {
  const OUTSIDE = [
    '../x',
    '../../etc/passwd',
    'a/../../x',
    '/etc/passwd',
    '\\etc\\passwd',
    '..\\x',
    'a\\..\\..\\x',
    'C:\\x',
    'c:x',
    '%2e%2e%2fx',
    '..%5cx',
    '%2fetc%2fpasswd',
  ]
  it.each(OUTSIDE)('are refused: %s', async (name) => {
    const app = await startUserdata()
    await writeFile(join(app.dir, 'x'), 'outside')
    await writeFile(join(app.dir, 'userdata', 'x'), 'outside')
    await app.post('/userdata/own.json', 'own')
    const before = await app.onDisk()
    const file = encodeURIComponent(name)
    const statuses = [
      await app.get(`/userdata/${file}`),
      await app.post(`/userdata/${file}`, 'evil'),
      await app.ask('DELETE', `/userdata/${file}`),
      await app.post(`/userdata/${file}/move/x.json`, ''),
      await app.post(`/userdata/own.json/move/${file}`, ''),
      await app.get(`/userdata?dir=${file}`),
      await app.get(`/v2/userdata?path=${file}`),
    ].map(({ statusCode }) => statusCode)
    expect(statuses).toEqual([403, 403, 403, 403, 403, 403, 400])
    expect(await app.onDisk()).toEqual(before)
    expect(app.worker.ledger.requests.every(({ method }) => method === 'GET')).toBe(true)
  })

  it('or that no disk can have are the client’s mistake', async () => {
    const app = await startUserdata()
    await app.post('/userdata/file', 'x')
    for (const name of ['a%00b', 'x'.repeat(300), 'file%2Fbelow', '%2E%2F']) {
      const refused = await app.post(`/userdata/${name}`, 'x')
      expect([name, refused.statusCode, refused.body]).toEqual([name, 400, ''])
      expect(refused.statusMessage).toBe('Invalid filename. Please avoid special characters like :\\/*?"<>|')
      expect((await app.get(`/userdata/${name}`)).statusCode).toBe(name === '%2E%2F' ? 403 : 404)
    }
    expect((await app.get(`/userdata/${'x'.repeat(4_000)}`)).statusCode).toBe(404)
    expect((await app.get('/userdata?dir=a%00b')).statusCode).toBe(404)
  })

  it('do not match with real slashes, and do not reach a worker', async () => {
    const app = await startUserdata()
    await app.post('/userdata/workflows%2Fa.json', '{}')
    const asked = app.worker.ledger.requests.length
    for (const url of ['/userdata/workflows/a.json', '/api/settings/a/b', '/users/x', '/v2/userdata/x', '/userdata/']) {
      expect([url, (await app.get(url)).statusCode]).toEqual([url, 404])
    }
    const put = await app.ask('PUT', '/userdata/a.json', '')
    expect([put.statusCode, put.headers.allow, put.body]).toEqual([405, 'GET,HEAD', '405: Method Not Allowed'])
    expect(app.worker.ledger.requests).toHaveLength(asked)
  })
})
