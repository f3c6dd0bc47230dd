import { once } from 'node:events'
import { request } from 'node:http'
import { describe, expect, it, vi } from 'vitest'
import { startRelay } from '../relay/relay-app.ts'

describe('the socket route', () => {
  it.each(['/ws', '/api/ws?clientId=x'])('answers a plain GET of %s as ComfyUI does', async (path) => {
    const app = await startRelay()
    const response = await fetch(`http://127.0.0.1:${app.port}${path}`)
    expect(response.status).toBe(400)
    expect(response.headers.get('content-type')).toBe('text/plain; charset=utf-8')
    expect(await response.text()).toBe('No WebSocket UPGRADE hdr: None\n Can "Upgrade" only to "WebSocket".')
  })

  it('is served under /api, too, and takes the first of several client ids', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=first&clientId=second')
    expect(client.frames[0]).toContain('"sid": "first"')
    const { SocketClient } = await import('../relay/socket-client.ts')
    const other = await SocketClient.connect(`ws://127.0.0.1:${app.port}/api/ws?clientId=x`)
    expect(other.frames[0]).toContain('"sid": "x"')
    other.terminate()
  })

  it('offers no compression', async () => {
    const app = await startRelay()
    const upgrade = request({
      port: app.port,
      host: '127.0.0.1',
      path: '/ws?clientId=x',
      headers: {
        connection: 'upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
        'sec-websocket-extensions': 'permessage-deflate',
      },
    })
    upgrade.end()
    const [response, socket] = await once(upgrade, 'upgrade')
    expect(response.headers['sec-websocket-extensions']).toBeUndefined()
    socket.destroy()
  })

  it.each([
    ['a message of more than 1 MB', Buffer.alloc(1024 * 1024 + 1), 1009],
    ['64 MB', Buffer.alloc(64 * 1024 * 1024), 1009],
  ])('closes a client that sends %s', async (_name, data, code) => {
    const app = await startRelay()
    const client = await app.connect('clientId=x')
    const other = await app.connect('clientId=other')
    client.send(data)
    expect([code, 1006]).toContain((await client.closed).code)
    await vi.waitFor(() => expect(app.relay.clientCount).toBe(1))
    other.send('{"type": "feature_flags", "data": {}}')
    await other.untilTold('feature_flags')
  })

  it.each([
    ['bytes that are no frame', Buffer.from([0xff, 0xff, 0xff, 0xff])],
    ['an unmasked frame', Buffer.from([0x81, 0x01, 0x61])],
    ['text that is not UTF-8', Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0xff])],
    [
      'endless fragments',
      Buffer.concat([
        Buffer.from([0x01, 0x81, 0, 0, 0, 0, 0x61]),
        ...Array.from({ length: 100 }, () => Buffer.from([0x00, 0x81, 0, 0, 0, 0, 0x61])),
      ]),
    ],
  ])('ends a client that sends %s, and no other', async (_name, bytes) => {
    const app = await startRelay()
    const other = await app.connect('clientId=other')
    const upgrade = request({
      port: app.port,
      host: '127.0.0.1',
      path: '/ws?clientId=x',
      headers: {
        connection: 'upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
      },
    })
    upgrade.end()
    const [, socket] = await once(upgrade, 'upgrade')
    socket.resume()
    socket.write(bytes)
    await once(socket, 'end')
    socket.destroy()
    await vi.waitFor(() => expect(app.relay.clientCount).toBe(1))
    other.send('{"type": "feature_flags", "data": {}}')
    await other.untilTold('feature_flags')
  })
})
