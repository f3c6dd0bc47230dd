import { readFile } from 'node:fs/promises'
import { describe, expect, it, vi } from 'vitest'
import { WebSocket } from 'ws'
import { encodeFrame } from '../../src/comfyui/frames.ts'
import { aPrompt, frame, promptEvents, startRelay, success } from './relay-app.ts'

const preview = (promptId: string, size = 8): Buffer =>
  encodeFrame({
    kind: 'image-with-metadata',
    metadata: { node_id: '1', prompt_id: promptId, image_type: 'image/jpeg' },
    image: Buffer.alloc(size, 7),
  })

describe('a socket of a client', () => {
  it('is first told the count and its own client id, as ComfyUI writes it', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=n%C3%A9')
    expect(client.frames).toEqual([
      '{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "n\\u00e9"}}',
    ])
  })

  it.each(['', 'clientId='])('gets an id when it gives none (%j)', async (query) => {
    const app = await startRelay()
    const client = await app.connect(query)
    expect(client.frames[0]).toMatch(/"sid": "[0-9a-f]{32}"}}$/)
  })

  it('sees a run exactly as ComfyUI told it when it was recorded', async () => {
    const fixture = new URL('../fixtures/comfyui-0.3.64.json', import.meta.url)
    const { situations } = JSON.parse(await readFile(fixture, 'utf8')) as {
      situations: { name: string; ws: { text: string }[] }[]
    }
    const recorded =
      situations.find(({ name }) => name === 'a run, with its own socket')?.ws.map(({ text }) => text) ?? []
    expect(recorded.length).toBeGreaterThan(10)
    const app = await startRelay()
    const client = await app.connect('clientId=rec-a')
    const prompt = aPrompt('21eb3d1f-cef7-4742-9c80-276af8663d3a', 'rec-a')
    app.events.publish({ kind: 'admitted', prompt })
    for (const text of recorded) {
      const { type } = JSON.parse(text) as { type: string }
      if (type === 'execution_success') app.events.publish({ kind: 'finished', prompt, messages: [text] })
      else app.events.publish({ kind: 'message', prompt, type, text })
    }
    await client.until((frames) => frames.length >= recorded.length)
    expect(client.frames).toEqual(recorded)
  })

  it('is not told what belongs to another caller with the same client id', async () => {
    const app = await startRelay()
    const mine = await app.connect('clientId=comfyui-mcp&caller=a')
    const theirs = await app.connect('clientId=comfyui-mcp&caller=b')
    for (const caller of ['a', 'b']) {
      const prompt = promptEvents(app.events, aPrompt(`of-${caller}`, 'comfyui-mcp', caller))
      prompt.admitted()
      prompt.start()
      prompt.finished()
    }
    await mine.untilTold('executing of-a:null')
    await theirs.untilTold('executing of-b:null')
    expect(mine.plot).toEqual(['execution_start of-a', 'execution_success of-a', 'executing of-a:null'])
    expect(theirs.plot).toEqual(['execution_start of-b', 'execution_success of-b', 'executing of-b:null'])
  })

  it('gets everything once when its client has several', async () => {
    const app = await startRelay()
    const sockets = [await app.connect('clientId=c'), await app.connect('clientId=c')]
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    prompt.executed('9')
    prompt.finished()
    for (const socket of sockets) {
      await socket.untilTold('executing p:null')
      expect(socket.plot).toEqual(['execution_start p', 'executed p:9', 'execution_success p', 'executing p:null'])
    }
    await vi.waitFor(() => expect(app.told).toEqual(['p']))
  })

  it('that joins while another listens is brought to the present, not told the past', async () => {
    const app = await startRelay()
    const first = await app.connect('clientId=c')
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    prompt.executing('1')
    prompt.progressState(0.5)
    prompt.progress(50)
    await first.untilTold('progress p:50')
    const second = await app.connect('clientId=c')
    prompt.finished()
    await second.untilTold('executing p:null')
    expect(second.story).toEqual([
      'status 1',
      'executing p:1',
      'progress_state p',
      'execution_success p',
      'status 0',
      'executing p:null',
    ])
  })

  it('is closed with 1001 behind what it was sent when the gateway stops', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=c')
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    prompt.frame(preview('p', 500_000), true)
    await app.close()
    expect((await client.closed).code).toBe(1001)
    expect(client.plot).toEqual(['execution_start p', '<500008 bytes>'])
  })

  it('is cut when it does not answer pings', async () => {
    const app = await startRelay({ pingMs: 40 })
    const dead = await app.connect('clientId=dead', { autoPong: false })
    const alive = await app.connect('clientId=alive')
    expect((await dead.closed).code).toBe(1006)
    await vi.waitFor(() => expect(app.relay.clientCount).toBe(1))
    const prompt = promptEvents(app.events, aPrompt('p', 'alive'))
    prompt.admitted()
    await alive.untilTold('status 1')
  })

  it('is refused with 1008 when its caller has too many', async () => {
    const app = await startRelay({ maxSocketsPerCaller: 2 })
    const kept = await app.connect('clientId=1')
    await app.connect('clientId=2')
    const refused = new WebSocket(`ws://127.0.0.1:${app.port}/ws?clientId=3`)
    expect(await new Promise((resolve) => refused.on('close', resolve))).toBe(1008)
    await app.connect('clientId=1&caller=other')
    await kept.leave()
    await vi.waitFor(() => expect(app.relay.clientCount).toBe(2))
    await app.connect('clientId=4')
  })
})

describe('feature flags', () => {
  it('decide the form of pictures for each socket', async () => {
    const app = await startRelay()
    const old = await app.connect('clientId=c')
    const modern = await app.connect('clientId=c', { features: { supports_preview_metadata: true } })
    expect(modern.frames.at(-1)).toBe(
      '{"type": "feature_flags", "data": {"supports_preview_metadata": true, "max_upload_size": 104857600}}',
    )
    const prompt = promptEvents(app.events, aPrompt('p'))
    const bytes = preview('p')
    const text = encodeFrame({ kind: 'text', nodeId: '3', text: 'hello' })
    prompt.admitted()
    prompt.start()
    prompt.frame(bytes, false)
    prompt.frame(text, false)
    prompt.finished()
    await old.untilTold('executing p:null')
    await modern.untilTold('executing p:null')
    const legacy = encodeFrame({ kind: 'image', imageType: 'image/jpeg', image: Buffer.alloc(8, 7) })
    expect(old.frames.filter((one) => typeof one !== 'string')).toEqual([legacy, text])
    expect(modern.frames.filter((one) => typeof one !== 'string')).toEqual([bytes, text])
  })

  it('count only in the first message that is JSON, and only when they are exactly true', async () => {
    const app = await startRelay()
    const late = await app.connect('clientId=late')
    late.send('{"type": "hello"}')
    late.send('{"type": "feature_flags", "data": {"supports_preview_metadata": true}}')
    const loose = await app.connect('clientId=loose', { features: { supports_preview_metadata: 1 } })
    const patient = await app.connect('clientId=patient')
    patient.send('not JSON')
    patient.send(Buffer.from('{"type": "hello"}'))
    patient.send('{"type": "feature_flags", "data": {"supports_preview_metadata": true}}')
    await patient.untilTold('feature_flags')
    const firstWord: number[] = []
    for (const client of [late, loose, patient]) {
      const clientId = client === late ? 'late' : client === loose ? 'loose' : 'patient'
      const prompt = promptEvents(app.events, aPrompt(`p-${clientId}`, clientId))
      prompt.admitted()
      prompt.start()
      prompt.frame(preview(`p-${clientId}`), true)
      await client.until((frames) => frames.some((one) => typeof one !== 'string'))
      firstWord.push((client.frames.find((one) => typeof one !== 'string') as Buffer).readUInt32BE(0))
    }
    expect(firstWord).toEqual([1, 1, 4])
    expect(late.story).not.toContain('feature_flags')
  })
})

describe('prompts of one client that run at the same time', () => {
  it('are told one after the other, in the order of their starts', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=c')
    const a = promptEvents(app.events, aPrompt('a'))
    const b = promptEvents(app.events, aPrompt('b'))
    a.admitted()
    b.admitted()
    b.start()
    a.start()
    b.executing('1')
    for (const node of ['1', '2', '3']) a.executing(node)
    for (const value of [1, 2, 3]) a.progress(value)
    a.executed('3')
    a.frame(preview('a', 30_000), true)
    a.finished()
    b.executed('1')
    b.finished()
    await client.untilTold('executing a:null')
    expect(client.plot).toEqual([
      'execution_start b',
      'executing b:1',
      'executed b:1',
      'execution_success b',
      'executing b:null',
      'execution_start a',
      'executing a:1',
      'executing a:2',
      'executing a:3',
      'progress a:3',
      'executed a:3',
      '<30008 bytes>',
      'execution_success a',
      'executing a:null',
    ])
    expect(client.story.at(-2)).toBe('status 0')
  })

  it('are told as they come when delivery is live', async () => {
    const app = await startRelay({ delivery: 'live' })
    const client = await app.connect('clientId=c')
    const a = promptEvents(app.events, aPrompt('a'))
    const b = promptEvents(app.events, aPrompt('b'))
    a.admitted()
    b.admitted()
    a.start()
    b.start()
    b.finished()
    a.finished()
    await client.untilTold('executing a:null')
    expect(client.plot).toEqual([
      'execution_start a',
      'execution_start b',
      'execution_success b',
      'executing b:null',
      'execution_success a',
      'executing a:null',
    ])
  })

  it('wait for one that goes back to the queue, and its second start is told', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=c')
    const a = promptEvents(app.events, aPrompt('a'))
    const b = promptEvents(app.events, aPrompt('b'))
    a.admitted()
    b.admitted()
    a.start(1)
    b.start()
    a.requeued()
    b.finished()
    a.start(2)
    a.finished()
    await client.untilTold('executing b:null')
    expect(client.plot).toEqual([
      'execution_start a',
      'execution_start a',
      'execution_success a',
      'executing a:null',
      'execution_start b',
      'execution_success b',
      'executing b:null',
    ])
  })

  it('go on when the open one is removed', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=c')
    const a = promptEvents(app.events, aPrompt('a'))
    const b = promptEvents(app.events, aPrompt('b'))
    a.admitted()
    b.admitted()
    a.start()
    b.start()
    a.removed()
    await client.untilTold('execution_start b')
    expect(client.plot).toEqual(['execution_start a', 'executing a:null', 'execution_start b'])
    expect(client.story).toContain('status 1')
  })
})

describe('what only the gateway may say', () => {
  it('is not taken from workers', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=c')
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    prompt.message('status', { status: { exec_info: { queue_remaining: 77 } }, sid: 'worker' })
    prompt.message('executing', { node: null, prompt_id: 'p' })
    prompt.message('execution_success', { prompt_id: 'p' })
    prompt.message('execution_error', { prompt_id: 'p', exception_type: 'ValueError' })
    prompt.message('execution_error', { prompt_id: 'p', exception_type: 'ExecutionBlocked' })
    prompt.frame(Buffer.from([0, 0, 0, 9, 1, 1, 1, 1]), false)
    app.events.publish({
      kind: 'workerMessage',
      prompt: aPrompt('p'),
      type: 'display_component',
      text: frame('display_component', { component: 'x' }),
    })
    app.events.publish({
      kind: 'finished',
      prompt: aPrompt('p'),
      messages: [success('p'), frame('status', { status: { exec_info: { queue_remaining: 5 } } })],
    })
    prompt.executed('late')
    await client.untilTold('executing p:null')
    expect(client.plot).toEqual([
      'execution_start p',
      'execution_error p',
      'display_component',
      'execution_success p',
      'executing p:null',
    ])
    expect(client.story).not.toContain('status 77')
    expect(client.story).not.toContain('status 5')
  })
})

describe('the answer to a POST', () => {
  it('leaves before anything is said about its prompt, the end included', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=c')
    const fast = promptEvents(app.events, aPrompt('fast'))
    const other = promptEvents(app.events, aPrompt('other'))
    app.relay.holdUntilAnswered('fast')
    app.relay.holdUntilAnswered('fast')
    fast.admitted()
    fast.start()
    fast.finished()
    app.relay.answered('fast')
    other.admitted()
    other.start()
    other.finished()
    await client.untilTold('executing other:null')
    expect(client.plot.filter((line) => line.includes('fast'))).toEqual([])
    app.relay.answered('fast')
    await client.untilTold('executing fast:null')
    expect(client.plot.slice(-3)).toEqual(['execution_start fast', 'execution_success fast', 'executing fast:null'])
    expect(client.story.at(-2)).toBe('status 0')
  })

  it.each(['ordered', 'live'] as const)('holds a running prompt back while it is repeated (%s)', async (delivery) => {
    const app = await startRelay({ delivery })
    const client = await app.connect('clientId=c')
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    app.relay.holdUntilAnswered('p')
    prompt.executed('1')
    client.send('{"type": "feature_flags", "data": {}}')
    await client.untilTold('feature_flags')
    expect(client.plot).toEqual(['execution_start p', 'feature_flags'])
    app.relay.answered('p')
    await client.untilTold('executed p:1')
    app.relay.answered('never asked')
  })
})

describe('status', () => {
  it('is merged for a client that submits thousands, and ends with the right count', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=c')
    for (let number = 0; number < 10_000; number++) promptEvents(app.events, aPrompt(`p${number}`)).admitted()
    await client.untilTold('status 10000')
    for (let number = 0; number < 10_000; number++) promptEvents(app.events, aPrompt(`p${number}`)).removed()
    await client.until(() => client.story.at(-1) === 'status 0')
    expect(client.frames.length).toBeLessThan(20)
    expect(app.relay.clientCount).toBe(1)
  })

  it('counts the fleet when told so, for everybody', async () => {
    let count = 7
    const app = await startRelay({ statusCount: 'fleet', fleetCount: () => count })
    const client = await app.connect('clientId=c')
    expect(client.story).toEqual(['status 7'])
    count = 8
    promptEvents(app.events, { ...aPrompt('p'), clientId: undefined }).admitted()
    await client.untilTold('status 8')
  })
})

describe('a client that is away', () => {
  it('is told the rest when it returns, once, and where it stands', async () => {
    const app = await startRelay()
    const before = await app.connect('clientId=c')
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    prompt.executing('4')
    prompt.progressState(0.1)
    await before.untilTold('progress_state p')
    await before.leave()
    prompt.executed('4')
    for (let value = 0; value < 50; value++) prompt.progress(value)
    prompt.executing('5')
    prompt.finished()
    expect(app.told).toEqual([])
    const after = await app.connect('clientId=c')
    await after.untilTold('executing p:null')
    expect(after.story).toEqual([
      'status 1',
      'executing p:4',
      'progress_state p',
      'executed p:4',
      'progress p:49',
      'executing p:5',
      'execution_success p',
      'status 0',
      'executing p:null',
    ])
    await vi.waitFor(() => expect(app.told).toEqual(['p']))
    await after.leave()
    const again = await app.connect('clientId=c')
    expect(again.story).toEqual(['status 0'])
  })

  it('is forgotten when its time is over', async () => {
    let now = 0
    const app = await startRelay({ replayMs: 1000, now: () => now })
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    prompt.finished()
    expect(app.relay.clientCount).toBe(1)
    now = 1001
    await vi.waitFor(() => expect(app.relay.clientCount).toBe(0), { timeout: 5000 })
    const client = await app.connect('clientId=c')
    expect(client.story).toEqual(['status 0'])
  })

  it('is forgotten at once when there is no replay', async () => {
    const app = await startRelay({ replayMs: 0 })
    const prompt = promptEvents(app.events, aPrompt('p'))
    prompt.admitted()
    prompt.start()
    expect(app.relay.clientCount).toBe(1)
    prompt.finished()
    expect(app.relay.clientCount).toBe(0)
  })

  it('loses the oldest ends when there are far too many of its kind, and nothing else does', async () => {
    let now = 0
    const app = await startRelay({ holdBytes: 100_000, replayMs: 100_000, now: () => now })
    for (let number = 0; number < 1_000; number++) {
      now += 10
      const prompt = promptEvents(app.events, aPrompt(`p${number}`, `c${number}`))
      prompt.admitted()
      prompt.start()
      if (number > 0) prompt.finished()
    }
    expect(app.relay.clientCount).toBeLessThan(120)
    const newest = await app.connect('clientId=c999')
    await newest.untilTold('executing p999:null')
    const oldest = await app.connect('clientId=c1')
    expect(oldest.story).toEqual(['status 0'])
    const running = await app.connect('clientId=c0')
    await running.untilTold('execution_start p0')
  })

  it('leaves nothing behind once all is told', async () => {
    const app = await startRelay()
    for (const clientId of ['1', '2', '3']) {
      const client = await app.connect(`clientId=${clientId}`)
      const prompt = promptEvents(app.events, aPrompt(`p${clientId}`, clientId))
      prompt.admitted()
      prompt.start()
      prompt.finished()
      await client.untilTold(`executing p${clientId}:null`)
      await client.leave()
    }
    promptEvents(app.events, { ...aPrompt('nobody'), clientId: undefined }).admitted()
    promptEvents(app.events, aPrompt('empty', '')).admitted()
    await vi.waitFor(() => expect(app.relay.clientCount).toBe(0))
  })
})

describe('a prompt that ended before', () => {
  it('is told in the form of one that ends now, once', async () => {
    const app = await startRelay()
    const messages = [frame('execution_start', { prompt_id: 'p' }), success('p')]
    app.relay.replay(aPrompt('p'), messages)
    app.relay.replay(aPrompt('p'), messages)
    const client = await app.connect('clientId=c')
    await client.untilTold('executing p:null')
    expect(client.story.filter((line) => line !== 'status 1')).toEqual([
      'execution_start p',
      'execution_success p',
      'status 0',
      'executing p:null',
    ])
    app.relay.replay(aPrompt('p'), messages)
    await client.until(() => client.story.filter((line) => line === 'executing p:null').length === 2)
  })

  it('waits for the answer to its repeated POST', async () => {
    const app = await startRelay()
    const client = await app.connect('clientId=c')
    app.relay.holdUntilAnswered('p')
    app.relay.replay(aPrompt('p'), [success('p')])
    const other = promptEvents(app.events, aPrompt('other'))
    other.admitted()
    other.finished()
    await client.untilTold('executing other:null')
    expect(client.story).not.toContain('execution_success p')
    app.relay.answered('p')
    await client.untilTold('executing p:null')
  })
})
