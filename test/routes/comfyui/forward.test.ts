import { describe, expect, it } from 'vitest'
import { headersFromWorker, headersToWorker } from '../../../src/routes/comfyui/forward.ts'
import { viewHeaders } from '../../../src/routes/comfyui/view-headers.ts'

describe('headers of a client', () => {
  it.each([
    'authorization',
    'cf-connecting-ip',
    'comfy-user',
    'content-length',
    'cookie',
    'expect',
    'forwarded',
    'host',
    'keep-alive',
    'origin',
    'proxy-authorization',
    'proxy-connection',
    'referer',
    'sec-fetch-mode',
    'sec-fetch-site',
    'sec-fetch-user',
    'te',
    'trailer',
    'transfer-encoding',
    'true-client-ip',
    'upgrade',
    'via',
    'x-api-key',
    'x-forwarded-for',
    'x-forwarded-host',
    'x-forwarded-proto',
    'x-real-ip',
    'x_forwarded_for',
  ])('do not reach a worker: %s', (name) => {
    expect(headersToWorker({ [name]: 'x' })).toEqual({ 'accept-encoding': 'identity' })
  })

  it.each(['accept', 'range', 'if-none-match', 'if-modified-since', 'sec-fetch-dest', 'content-type', 'x-custom-node'])(
    'reach a worker: %s',
    (name) => {
      expect(headersToWorker({ [name]: 'x' })[name]).toBe('x')
    },
  )

  it('are removed when the client names them in Connection, which cannot remove what the gateway adds', () => {
    const passed = headersToWorker({
      connection: 'keep-alive, X-Secret, accept-encoding',
      'x-secret': 'x',
      'accept-encoding': 'gzip',
      range: 'bytes=0-',
    })
    expect(passed).toEqual({ 'accept-encoding': 'identity', range: 'bytes=0-' })
  })
})

describe('headers of a worker', () => {
  it.each([
    'access-control-allow-origin',
    'access-control-allow-credentials',
    'alt-svc',
    'clear-site-data',
    'connection',
    'cross-origin-opener-policy',
    'date',
    'keep-alive',
    'proxy-authenticate',
    'server',
    'set-cookie',
    'strict-transport-security',
    'trailer',
    'transfer-encoding',
    'upgrade',
    'via',
    'www-authenticate',
    'x-accel-redirect',
    'x-powered-by',
  ])('do not reach a client: %s', (name) => {
    expect(headersFromWorker({ [name]: 'x' })).toEqual({})
    expect(headersFromWorker({ [name.toUpperCase()]: ['x', 'y'] })).toEqual({})
  })

  it('reach a client otherwise, but for what the worker names in Connection and what is no header', () => {
    expect(
      headersFromWorker({
        connection: 'x-hop',
        'x-hop': '1',
        etag: '"a"',
        'content-disposition': 'filename="日.png"',
        'x-broken': 'a\r\nb',
        link: ['a', 'b'],
      }),
    ).toEqual({
      etag: '"a"',
      'content-disposition': `filename="${Buffer.from('日').toString('latin1')}.png"`,
      link: ['a', 'b'],
    })
  })
})

describe('headers of a file', () => {
  const view = (type: string | undefined, dest?: string, more: Record<string, string> = {}) =>
    viewHeaders(
      {
        status: 200,
        headers: { 'content-disposition': 'filename="x"', ...more, ...(type ? { 'content-type': type } : {}) },
      },
      { filename: 'a"b\r\né.html', dest },
    )

  it.each(['image/png', 'image/jpeg', 'IMAGE/WEBP', 'image/gif', 'video/mp4', 'audio/x-wav', 'audio/flac'])(
    'leave %s as it is',
    (type) => {
      expect(view(type)).toEqual({
        'content-type': type,
        'content-disposition': 'filename="x"',
        'x-content-type-options': 'nosniff',
      })
    },
  )

  it.each([
    'text/html; charset=utf-8',
    'TEXT/HTML',
    'application/xhtml+xml',
    'text/javascript',
    'application/javascript',
    'text/css',
    'text/xml',
    'application/xml',
    'application/pdf',
    'image/svg+xml',
    'application/x-shockwave-flash',
    'multipart/x-mixed-replace',
    'something',
    'image/unknown',
    'video/mp4, text/html',
    undefined,
  ])('turn %s into a download', (type) => {
    expect(view(type)).toEqual({
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename="a_b___.html"; filename*=UTF-8''a%22b%0D%0A%C3%A9.html`,
      'content-security-policy': "sandbox; default-src 'none'",
      'cache-control': 'no-store',
      vary: 'Sec-Fetch-Dest',
      'x-content-type-options': 'nosniff',
    })
  })

  it('show an SVG only where it is a picture in a page', () => {
    expect(view('image/svg+xml', 'image')).toMatchObject({
      'content-type': 'image/svg+xml',
      'content-security-policy': "sandbox; default-src 'none'",
      vary: 'Sec-Fetch-Dest',
      'cache-control': 'no-store',
    })
    expect(view('image/svg+xml', 'document')['content-type']).toBe('application/octet-stream')
  })

  it.each(['text/plain; charset=utf-8', 'application/json', 'application/octet-stream', 'model/gltf-binary'])(
    'leave %s as it is in a sandbox',
    (type) => {
      expect(view(type)).toMatchObject({ 'content-type': type, 'content-security-policy': expect.any(String) })
    },
  )

  it('are only those that are listed', () => {
    expect(
      view('image/png', undefined, {
        'x-custom': '1',
        etag: '"a"',
        'set-cookie': 'a=b',
        'content-range': 'bytes 0-1/2',
      }),
    ).toEqual({
      'content-type': 'image/png',
      'content-disposition': 'filename="x"',
      'content-range': 'bytes 0-1/2',
      etag: '"a"',
      'x-content-type-options': 'nosniff',
    })
  })
})
