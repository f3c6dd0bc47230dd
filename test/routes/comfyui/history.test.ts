import { describe, expect, it } from 'vitest'
import { anOutcome, aPrompt } from '../../support/prompts.ts'
import { type Fleet, picture, startFleet } from './read-fleet.ts'

/** Admits and ends a prompt without a worker. */
async function ended(fleet: Fleet, promptId: string, history: string, who: { owner?: string; caller?: string } = {}) {
  const admitted = await fleet.queue.admit(aPrompt({ promptId, caller: 'a', ...who }))
  if (admitted.kind !== 'admitted') throw new Error('known already')
  await fleet.queue.finish(admitted.prompt, 0, anOutcome({ history }), { messages: [], log: 'done' })
}

const entryOf = (n: number): string => `{"prompt": [${n}], "outputs": {}, "status": null}`

describe('GET /history', () => {
  it('gives an ended prompt in ComfyUI’s shape, with a url that works as it stands', async () => {
    const fleet = await startFleet()
    const promptId = await fleet.run({ prompt: picture(), client_id: 'c' })
    const token = fleet.registry.list()[0]?.config.token
    const answer = await fleet.get(`/history/${promptId}`, { host: 'fleet.example:8000' })
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8')
    const image = {
      filename: 'pic_00001_.png',
      subfolder: token,
      type: 'output',
      url: `http://fleet.example:8000/api/view?filename=pic_00001_.png&subfolder=${token}&type=output`,
    }
    expect(answer.json()).toMatchObject({
      [promptId]: {
        prompt: [0, promptId, picture(), { client_id: 'c' }, ['2']],
        outputs: { 2: { images: [image] } },
        status: { status_str: 'success', completed: true },
        meta: { 2: { node_id: '2' } },
      },
    })
    expect((await fleet.get('/history', { host: 'fleet.example:8000' })).json()).toEqual(answer.json())
    const file = await fleet.get(image.url.replace('http://fleet.example:8000', ''))
    expect([file.statusCode, file.headers['content-type']]).toEqual([200, 'image/png'])
  })

  it('puts the host into outputs only: graphs are the client’s own', async () => {
    const fleet = await startFleet({ workers: [] })
    const own = '"url": "/api/view?filename=x"'
    await ended(
      fleet,
      'p',
      `{"prompt": [{${own}}], "outputs": {"1": {"images": [{${own}}, {${own}}]}}, "status": {${own}}}`,
    )
    const there = '"url": "http://h\\"i/api/view?filename=x"'
    const expected = `{"p": {"prompt": [{${own}}], "outputs": {"1": {"images": [{${there}}, {${there}}]}}, "status": {${own}}}}`
    expect(
      (await fleet.history.page({ owner: 'open', maxItems: undefined, offset: undefined }, 'http://h"i')).toString(),
    ).toBe(expected)
    expect(`{"p": ${await fleet.history.entry('p', 'open', 'http://h"i')}}`).toBe(expected)
  })

  it('answers an empty object for what is unknown, unfinished or another owner’s', async () => {
    const fleet = await startFleet({ workers: [] })
    await ended(fleet, 'theirs', entryOf(1), { owner: 'bob' })
    await fleet.queue.admit(aPrompt({ promptId: 'waits' }))
    for (const id of ['nobody', 'waits', 'theirs', '..%2f..', '%00']) {
      const answer = await fleet.get(`/history/${id}`)
      expect([answer.statusCode, answer.body]).toEqual([200, '{}'])
    }
    expect((await fleet.get('/history')).body).toBe('{}')
  })

  it('pages as ComfyUI does, and keeps to its limit when no number is named', async () => {
    const fleet = await startFleet({ workers: [], listLimit: 3 })
    for (let n = 0; n < 5; n++) await ended(fleet, `p${n}`, entryOf(n))
    const ids = async (query: string) => Object.keys((await fleet.get(`/history${query}`)).json())
    expect(await ids('')).toEqual(['p2', 'p3', 'p4'])
    expect(await ids('?max_items=2')).toEqual(['p3', 'p4'])
    expect(await ids('?max_items=4')).toEqual(['p1', 'p2', 'p3', 'p4'])
    expect(await ids('?max_items=2&offset=0')).toEqual(['p0', 'p1'])
    expect(await ids('?offset=4')).toEqual(['p4'])
    for (const query of ['?max_items=x', '?max_items=', '?offset=1.5', '?max_items=1e3']) {
      const answer = await fleet.get(`/history${query}`)
      expect([answer.statusCode, answer.body]).toEqual([
        500,
        '500 Internal Server Error\n\nServer got itself in trouble',
      ])
    }
  })

  it('is the same bytes until the history changes, for each owner and host', async () => {
    const fleet = await startFleet({ workers: [] })
    await ended(fleet, 'p0', entryOf(0))
    const ask = (owner = 'open', host = 'http://h') =>
      fleet.history.page({ owner, maxItems: undefined, offset: undefined }, host)
    const first = await ask()
    expect(await ask()).toBe(first)
    expect((await ask('bob')).toString()).toBe('{}')
    expect(await ask('open', 'http://other')).not.toBe(first)
    const { revision } = fleet.history
    await ended(fleet, 'p1', entryOf(1))
    expect(fleet.history.revision).toBeGreaterThan(revision)
    expect((await ask()).toString()).toContain('"p1"')
  })
})

describe('POST /history', () => {
  it('deletes the entries of the owner by id', async () => {
    const fleet = await startFleet({ workers: [] })
    await ended(fleet, 'mine', entryOf(0))
    await ended(fleet, 'kept', entryOf(1))
    await ended(fleet, 'theirs', entryOf(2), { owner: 'bob' })
    await fleet.get('/history')
    const answer = await fleet.post('/history', { delete: ['mine', 'theirs', 'nobody'] })
    expect([answer.statusCode, answer.body, answer.headers['content-length']]).toEqual([200, '', '0'])
    expect(Object.keys((await fleet.get('/history')).json())).toEqual(['kept'])
    expect((await fleet.get('/history/mine')).body).toBe('{}')
    expect(Object.keys((await fleet.get('/history', { 'x-owner': 'bob' })).json())).toEqual(['theirs'])
  })

  it('clears what the caller submitted and nothing else', async () => {
    const fleet = await startFleet({ workers: [] })
    await ended(fleet, 'mine', entryOf(0))
    await ended(fleet, 'theirs', entryOf(1), { caller: 'b' })
    await fleet.get('/history')
    await fleet.post('/api/history', { clear: true })
    expect(Object.keys((await fleet.get('/history')).json())).toEqual(['theirs'])
  })
})
