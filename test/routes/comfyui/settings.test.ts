import { describe, expect, it } from 'vitest'
import { startUserdata } from './userdata-app.ts'

describe('settings', () => {
  it('keep numbers, order and ids of any kind as they were sent', async () => {
    const app = await startUserdata()
    const sent = '{"z": 12345678901234567890, "10": 1.0, "a b/c": NaN, "2": {"k": ["\\u00e9", null]}, "__proto__": 1}'
    expect((await app.post('/settings', sent.replace('\\u00e9', 'é'))).statusCode).toBe(200)
    expect((await app.get('/settings')).body).toBe(sent)
    expect((await app.get('/settings/a%20b%2Fc')).body).toBe('NaN')
    await app.post('/api/settings/10', '[]')
    await app.post('/settings/__proto__', '{"x":1}')
    expect((await app.get('/settings')).body).toBe(
      sent.replace('"10": 1.0', '"10": []').replace('"__proto__": 1', '"__proto__": {"x": 1}'),
    )
    expect((await app.get('/settings/constructor')).body).toBe('null')
  })

  it('lose nothing when two tabs save at once', async () => {
    const app = await startUserdata()
    const ids = Array.from({ length: 50 }, (_, index) => `tab.${index}`)
    await Promise.all(
      ids.map((id, index) =>
        index % 2 ? app.post(`/settings/${id}`, String(index)) : app.post('/settings', `{"${id}": ${index}}`),
      ),
    )
    const kept = (await app.get('/settings')).json()
    expect(ids.map((id) => kept[id])).toEqual(ids.map((_, index) => index))
  })

  it.each(['', '{', '[1]', '"x"', 'null', '\ud800'.concat('{')])(
    'answer ComfyUI’s 500 to the body %j',
    async (body) => {
      const app = await startUserdata()
      await app.post('/settings/a', '1')
      const answer = await app.post('/settings', body)
      expect([answer.statusCode, answer.headers['content-type'], answer.body]).toEqual([
        500,
        'text/plain; charset=utf-8',
        '500 Internal Server Error\n\nServer got itself in trouble',
      ])
      expect((await app.get('/settings')).body).toBe('{"a": 1}')
    },
  )

  it('are bounded', async () => {
    const app = await startUserdata()
    await app.post('/settings/a', '1')
    const answer = await app.post('/settings/b', JSON.stringify('x'.repeat(900_000)))
    expect(answer.statusCode).toBe(200)
    for (let index = 0; index < 8; index++) await app.post(`/settings/${index}`, JSON.stringify('x'.repeat(900_000)))
    const refused = await app.post('/settings/last', JSON.stringify('x'.repeat(900_000)))
    expect([refused.statusCode, refused.json().error.type]).toEqual([413, 'settings_too_large'])
    expect((await app.get('/settings/a')).body).toBe('1')
  })
})

describe('POST /users', () => {
  it('gives a name an id, and says when it is taken or empty', async () => {
    for (const version of ['0.3.64', '2026'] as const) {
      const app = await startUserdata({ worker: { version } })
      const post = async (body: string) => {
        const answer = await app.post('/users', body)
        return [answer.statusCode, answer.body]
      }
      const [status, id] = await post('{"username": " bo b "}')
      expect([status, id]).toEqual([200, expect.stringMatching(/^"bo-b_[0-9a-f-]{36}"$/)])
      expect(await post('{"username": "bo b"}')).toEqual([400, '{"error": "Duplicate username."}'])
      expect(await post('{"username": "default"}')).toEqual([400, '{"error": "Duplicate username."}'])
      const blank = version === '2026' ? [400, '{"error": "username not provided"}'] : [500, expect.any(String)]
      expect(await post('{"username": " "}')).toEqual(blank)
      for (const body of ['{}', '[]', '{"username": 1}', 'x']) expect((await post(body))[0]).toBe(500)
      expect((await app.get('/users')).json()).toEqual({ storage: 'server', migrated: false })
    }
  })
})
