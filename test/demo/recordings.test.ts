import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decodeFrame } from '../../src/comfyui/frames.ts'
import { readPng } from '../../src/demo/png.ts'
import { dumpPyJson, isPyObject, type PyValue, parsePyJson } from '../../src/demo/py-json.ts'
import { createSimulatedWorker, type SimulatedWorker } from '../../src/demo/simulated-worker.ts'
import { Listener, type RawAnswer, send, until } from './raw-client.ts'

interface Exchange {
  request: { method: string; path: string; headers: Record<string, string>; body?: string }
  response: { status: number; headers: Record<string, string>; text?: string; base64?: string }
}

interface Situation {
  name: string
  http: Exchange[]
  ws: { socket: string; text?: string; binary_base64?: string }[]
}

/** What the simulated worker does not imitate, and why that is no loss. */
const NOT_IMITATED: readonly { what: string; why: string; skips?: (exchange: Exchange) => boolean }[] = [
  {
    what: 'userdata routes, but for reading all once',
    why: 'the gateway keeps user data itself',
    skips: ({ request }) => /^\/(v2\/)?userdata/.test(request.path),
  },
  { what: 'tooltips, descriptions and other texts of node classes', why: 'nobody decides anything by them' },
  {
    what: 'LoadImageOutput',
    why: 'its list comes from a route of the front end',
    skips: ({ request }) => request.path.endsWith('/LoadImageOutput'),
  },
  { what: 'values in /system_stats', why: 'they describe the machine; only the keys are compared' },
  { what: 'tracebacks, texts of tensors in current_inputs', why: 'they quote source code and data of the real one' },
  {
    what: 'the order of sets (executed, current_outputs, errors of one node)',
    why: 'Python changes it from start to start',
  },
  { what: 'compressed bytes of pictures', why: 'size, first pixel and text chunks are compared instead' },
  { what: 'pixels of preview= and channel= views', why: 'no encoder for WEBP here; type and headers are compared' },
  {
    what: 'how many progress ticks there are and their values',
    why: 'they depend on the clock; the first is compared',
  },
]

const HEADERS = ['content-type', 'allow', 'cache-control', 'content-disposition', 'accept-ranges', 'content-range']
const INPUT_FILES = ['example.png', 'input.png', 'owui-7340032.png', 'test.png']

const { situations }: { situations: Situation[] } = JSON.parse(
  readFileSync(new URL('../fixtures/comfyui-0.3.64.json', import.meta.url), 'utf8'),
)

let worker: SimulatedWorker
/** Open for as long as its namesake was in the recording. */
let main: Listener
/** Recorded id or ETag -> ours. */
const ours = new Map<string, string>()

beforeAll(async () => {
  worker = await createSimulatedWorker({ name: 'recorded' })
  for (const name of INPUT_FILES) worker.files.put('input', '', name, Buffer.from(name))
})

afterAll(() => worker.close())

describe('the simulated worker answers as the recorded ComfyUI', () => {
  it('writes JSON as Python does', () => {
    for (const { http, ws } of situations) {
      const texts = [...http.map(({ response }) => response), ...ws].flatMap(({ text }) => (text ? [text] : []))
      for (const text of texts.filter((each) => each.startsWith('{'))) expect(dumpPyJson(parsePyJson(text))).toBe(text)
    }
  })

  it.each(situations)('$name', async (situation) => {
    const sockets = await replay(situation)
    for (const [name, listener] of sockets) {
      const recorded = situation.ws.filter(({ socket }) => socket === name)
      const expected = recorded.map(({ text, binary_base64 }) => text ?? Buffer.from(binary_base64 ?? '', 'base64'))
      await until(() => orderOf(listener()).length >= orderOf(expected).length, `messages of ${name}`).catch(
        () => undefined,
      )
      expect(orderOf(listener().map(inTheirIds)), `messages to ${name || 'a socket without id'}`).toEqual(
        orderOf(expected),
      )
    }
  })

  it('lists what it does not imitate', () => {
    console.info(NOT_IMITATED.map(({ what, why }) => `not imitated: ${what} (${why})`).join('\n'))
    for (const { what, skips } of NOT_IMITATED) {
      if (skips)
        expect(
          situations.some(({ http }) => http.some(skips)),
          what,
        ).toBe(true)
    }
  })
})

type Texts = () => (string | Buffer)[]

/** Sends a situation's requests, compares the answers, and gives what each of its sockets got. */
async function replay(situation: Situation): Promise<Map<string, Texts>> {
  const sockets = new Map<string, Texts>()
  const extra: Listener[] = []
  const open = async (name: string): Promise<Listener> => {
    const listener = await Listener.open(worker.url, name === '' ? undefined : name)
    extra.push(listener)
    const before = sockets.get(name)
    sockets.set(name, () => [...(before?.() ?? []), ...textsOf(listener)])
    return listener
  }
  if (situation.name === 'a run, with its own socket') main = await Listener.open(worker.url, 'rec-a')
  const seenBefore = situation.name === 'a run, with its own socket' ? 0 : (main?.seen.length ?? 0)
  if (situation.ws.some(({ socket }) => socket === 'rec-a')) sockets.set('rec-a', () => textsOf(main, seenBefore))

  let listenFor = (): Listener => main
  switch (situation.name) {
    case 'a prompt without client_id, seen by two sockets':
      await open('rec-b')
      break
    case 'feature flags handshake': {
      const listener = await open('rec-c')
      listener.ws.send('{"type": "feature_flags", "data": {"supports_preview_metadata": true}}')
      await until(() => listener.has('feature_flags'))
      break
    }
    case 'socket without clientId; reconnect while its prompt runs': {
      await (await open('')).close()
      const first = await open('rec-e')
      listenFor = () => first
      break
    }
    default:
      break
  }

  let lastPrompt = ''
  for (const [index, exchange] of situation.http.entries()) {
    if (NOT_IMITATED.some(({ skips }) => skips?.(exchange))) continue
    const { request, response } = exchange
    // The recording paused at these points, too: until the prompt was in its sleep, or had ended.
    const isInTheMiddle = request.path === '/interrupt' || (situation.name.startsWith('queue:') && index === 1)
    if (isInTheMiddle && lastPrompt) await until(() => listenFor().has('progress', lastPrompt), 'progress')
    if (request.path.startsWith('/history/') && response.text !== '{}') await until(() => worker.queueRemaining === 0)
    if (request.method === 'POST' && request.path === '/prompt' && !situation.name.startsWith('queue:')) {
      await until(() => worker.queueRemaining === 0)
    }
    const answer = await send(worker.url, inOurIds(situation, exchange, index))
    const promptId = request.path === '/prompt' ? /"prompt_id": "([^"]+)"/.exec(response.text ?? '')?.[1] : undefined
    if (promptId) {
      lastPrompt = /"prompt_id": "([^"]+)"/.exec(answer.text)?.[1] ?? ''
      ours.set(promptId, lastPrompt)
    }
    if (response.headers.etag) ours.set(response.headers.etag, String(answer.headers.etag))
    compare(exchange, answer)
  }

  if (situation.name.startsWith('socket without clientId')) {
    const first = listenFor()
    await until(() => first.has('progress', lastPrompt), 'progress')
    await first.close()
    await open('rec-e')
  }
  await until(() => worker.queueRemaining === 0, 'an empty queue', 10_000)
  for (const listener of extra) await closeAfter(listener)
  return sockets
}

/** What is on its way arrives before the answer to a ping. */
async function closeAfter(listener: Listener): Promise<void> {
  if (listener.ws.readyState !== listener.ws.OPEN) return
  const pong = new Promise((resolve) => listener.ws.once('pong', resolve))
  listener.ws.ping()
  await pong
  await listener.close()
}

function textsOf(listener: Listener, from = 0): (string | Buffer)[] {
  return listener.seen.slice(from).map((each) => (Buffer.isBuffer(each) ? each : each.text))
}

function inOurIds(situation: Situation, { request }: Exchange, index: number) {
  const translate = (text: string): string => {
    let translated = text
    for (const [theirs, our] of ours) translated = translated.replaceAll(theirs, our)
    return translated
  }
  const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, translate(value)]))
  const upload = /^multipart: image=(\S*) (.*)$/.exec(request.body ?? '')
  if (upload) {
    const form = multipart(upload[1] ?? '', JSON.parse(upload[2] ?? '{}'), uploadedBytes(situation, index))
    return { method: request.method, path: request.path, headers: { ...headers, ...form.headers }, body: form.body }
  }
  return { method: request.method, path: translate(request.path), headers, body: translate(request.body ?? '') }
}

/** The recording has no bytes of uploads; the third differs from the others, as its new name shows. */
function uploadedBytes(situation: Situation, index: number): Buffer {
  const viewed = situations.flatMap(({ http }) => http).find(({ request }) => request.path.includes('u.png'))
  const bytes = Buffer.from(viewed?.response.base64 ?? '', 'base64')
  return situation.name === 'uploads' && index === 2 ? Buffer.concat([bytes, Buffer.from('!')]) : bytes
}

function multipart(filename: string, fields: Record<string, string>, bytes: Buffer) {
  const mark = 'a-boundary'
  const parts = Object.entries(fields).map(
    ([name, value]) => `--${mark}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  )
  const image = `--${mark}\r\nContent-Disposition: form-data; name="image"; filename="${filename}"\r\nContent-Type: image/png\r\n\r\n`
  return {
    headers: { 'content-type': `multipart/form-data; boundary=${mark}` },
    body: Buffer.concat([Buffer.from(parts.join('') + image), bytes, Buffer.from(`\r\n--${mark}--\r\n`)]),
  }
}

function compare({ request, response }: Exchange, answer: RawAnswer): void {
  const what = `${request.method} ${request.path} ${request.body ?? ''}`
  expect(answer.status, what).toBe(response.status)
  const isPicture = response.base64 !== undefined
  for (const header of HEADERS) {
    const total = (value: string | undefined) => value?.replace(/\/\d+$/, '/N')
    const given = answer.headers[header]
    expect(total(given === undefined ? undefined : String(given)), `${header} of ${what}`).toBe(
      total(response.headers[header]),
    )
  }
  for (const header of ['etag', 'last-modified', 'content-length']) {
    expect(header in answer.headers, `${header} of ${what}`).toBe(header in response.headers)
  }
  if (request.method !== 'HEAD' && 'content-length' in answer.headers) {
    expect(Number(answer.headers['content-length']), what).toBe(answer.body.length)
  }
  if (isPicture) comparePictures(response, answer, what)
  else if (request.path === '/system_stats')
    expect(keysOf(parsePyJson(answer.text))).toEqual(keysOf(parsePyJson(response.text ?? '')))
  else {
    const [given, expected] = [canonical(inTheirIds(answer.text)), canonical(response.text ?? '')]
    expect(given, what).toBe(expected)
    // Where nothing was left out, the length is the same, too.
    if (expected === response.text)
      expect(answer.headers['content-length'], what).toBe(response.headers['content-length'])
  }
}

function comparePictures(
  { headers, status, base64 = '' }: Exchange['response'],
  answer: RawAnswer,
  what: string,
): void {
  const expected = Buffer.from(base64, 'base64')
  if (headers['content-type'] === 'image/png' && headers.etag && status === 200) {
    const [given, wanted] = [readPng(answer.body), readPng(expected)]
    expect(wanted, what).toBeDefined()
    expect(given, what).toEqual(wanted)
  } else if (status === 206) expect(answer.body.toString('hex'), what).toBe(expected.toString('hex'))
  else expect(answer.body.length, what).toBeGreaterThan(0)
}

function inTheirIds<T extends string | Buffer>(text: T): T | string {
  if (typeof text !== 'string') return text
  let translated: string = text
  for (const [theirs, our] of ours) translated = translated.replaceAll(our, theirs)
  return translated
}

/** Without what is different each time, or listed above. */
function canonical(text: string): string {
  if (!text.startsWith('{')) return text
  const plain = text
    .replaceAll(/"timestamp": \d+/g, '"timestamp": 0')
    .replaceAll(/ComfyUI_temp_[a-z]{5}_/g, 'ComfyUI_temp_xxxxx_')
    .replaceAll(/"sid": "[0-9a-f]{32}"/g, '"sid": "minted"')
  return dumpPyJson(withoutTexts(parsePyJson(plain)))
}

const LEFT_OUT = ['tooltip', 'description', 'output_tooltips']
const SETS = ['executed', 'current_outputs', 'errors']

function withoutTexts(value: PyValue): PyValue {
  if (Array.isArray(value)) return value.map(withoutTexts)
  if (!isPyObject(value)) return value
  const kept = new Map<string, PyValue>()
  for (const [key, member] of value) {
    if (LEFT_OUT.includes(key)) continue
    const plain = withoutTexts(member)
    if (key === 'traceback') kept.set(key, [])
    else if (key === 'current_inputs' && isPyObject(plain)) kept.set(key, [...plain.keys()].toSorted())
    else if (SETS.includes(key) && Array.isArray(plain)) {
      kept.set(
        key,
        plain.toSorted((a, b) => (dumpPyJson(a) < dumpPyJson(b) ? -1 : 1)),
      )
    } else kept.set(key, plain)
  }
  // `["INT", {"tooltip": ...}]` and `["INT"]` say the same.
  return kept
}

function keysOf(value: PyValue): unknown {
  if (Array.isArray(value)) return value.length > 0 && isPyObject(value[0] ?? null) ? value.map(keysOf) : 'list'
  return isPyObject(value) ? Object.fromEntries([...value].map(([key, member]) => [key, keysOf(member)])) : 'value'
}

/** Messages in order, with all progress ticks of a prompt but the first left out. */
function orderOf(messages: (string | Buffer)[]): string[] {
  const ticked = new Set<string>()
  const order: string[] = []
  for (const message of messages) {
    if (typeof message !== 'string') {
      const frame = decodeFrame(message)
      const picture = frame?.kind === 'image' ? readPng(Buffer.from(frame.image))?.picture : undefined
      order.push(`frame ${frame?.kind} ${JSON.stringify(picture)}`)
      continue
    }
    const { type, data } = JSON.parse(message) as {
      type: string
      data: { prompt_id?: string; nodes?: Record<string, Tick> }
    }
    const key = `${type} ${data.prompt_id}`
    if (type === 'progress' || (type === 'progress_state' && Object.values(data.nodes ?? {}).some(isTick))) {
      if (!ticked.has(key)) order.push(canonical(message).replaceAll(/"value": \d[^,]*/g, '"value": 0'))
      ticked.add(key)
    } else order.push(canonical(message))
  }
  return order
}

interface Tick {
  value: number
  max: number
  state: string
}

/** A running node that reported progress by itself; a started one says 0 of 1. */
const isTick = ({ value, max, state }: Tick): boolean => state === 'running' && (value > 0 || max !== 1)
