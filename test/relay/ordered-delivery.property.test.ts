import { EventEmitter } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { encodeFrame } from '../../src/comfyui/frames.ts'
import { createPromptEvents } from '../../src/queue/events.ts'
import { createRelay, type Relay } from '../../src/relay/relay.ts'
import type { ClientSocket } from '../../src/relay/socket-writer.ts'
import { aPrompt, promptEvents, silentLog } from './relay-app.ts'
import { tell } from './socket-client.ts'

/** A socket whose reader reads when it is told to. */
class FakeSocket extends EventEmitter implements ClientSocket {
  readonly OPEN = 1
  readonly story: string[] = []
  readyState = 1
  bufferedAmount = 0
  closeCode: number | undefined
  #unread: (() => void)[] = []

  send(data: string | Uint8Array, _options: { binary: boolean }, done: () => void): void {
    this.bufferedAmount += data.length
    this.#unread.push(done)
    this.story.push(typeof data === 'string' ? tell(data) : Buffer.from(data).toString('latin1', 8).trim())
  }

  read(): void {
    const unread = this.#unread
    this.#unread = []
    this.bufferedAmount = 0
    for (const done of unread) done()
  }

  close(code: number): void {
    this.closeCode ??= code
    this.leave()
  }

  terminate(): void {
    this.leave()
  }

  ping(): void {}

  leave(): void {
    if (this.readyState === 3) return
    this.readyState = 3
    this.emit('close')
  }
}

const BUFFER_BYTES = 8_000

/** A result frame that says of which prompt and which number it is, large enough to fill a socket. */
const result = (name: string): Buffer =>
  encodeFrame({ kind: 'image', imageType: 'image/png', image: Buffer.from(`result ${name}`.padEnd(3_000)) })

const preview = (name: string): Buffer =>
  encodeFrame({ kind: 'image', imageType: 'image/jpeg', image: Buffer.from(`preview ${name}`) })

type Step = 'executing' | 'progress' | 'progressState' | 'preview' | 'executed' | 'result' | 'other' | 'requeue'
const step = fc.constantFrom<Step>(
  'executing',
  'progress',
  'progressState',
  'preview',
  'executed',
  'result',
  'other',
  'requeue',
)
/** What is done beside the prompts: readers read, come, go. */
type Aside = 'read' | 'join' | 'leave'

interface Plan {
  prompts: { steps: Step[]; answeredAfter: number }[]
  /** Which prompt goes on next; others mean an aside. */
  order: number[]
}

const plan = (): fc.Arbitrary<Plan> =>
  fc.record({
    prompts: fc.array(fc.record({ steps: fc.array(step, { maxLength: 12 }), answeredAfter: fc.nat({ max: 14 }) }), {
      minLength: 1,
      maxLength: 5,
    }),
    order: fc.array(fc.nat({ max: 9 }), { maxLength: 150 }),
  })

describe('ordered delivery', () => {
  let dir: string
  let relay: Relay
  /** In the order in which they came. */
  let sockets: FakeSocket[]
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'relay-'))
  })
  afterEach(() => rmSync(dir, { recursive: true, force: true }))

  /** Runs the prompts as planned, each to its end, and answers what must have been told of each. */
  function run(planned: Plan, asides: readonly Aside[], onAside: (aside: Aside) => void, holdBytes: number) {
    const events = createPromptEvents()
    const told: string[] = []
    sockets = []
    relay = createRelay({
      events,
      delivery: 'ordered',
      statusCount: 'client',
      fleetCount: () => 0,
      holdBytes,
      bufferBytes: BUFFER_BYTES,
      replayMs: 60_000,
      spoolDir: dir,
      features: () => ({}),
      onTold: (ids) => told.push(...ids),
      log: silentLog,
    })
    const prompts = planned.prompts.map(({ steps, answeredAfter }, index) => {
      const id = `p${index}`
      const prompt = promptEvents(events, aPrompt(id))
      let due = [`execution_start ${id}`]
      const play: (() => void)[] = [() => prompt.admitted(), () => prompt.start()]
      for (const [number, name] of steps.entries()) {
        if (name === 'executed') due.push(`executed ${id}:${number}`)
        if (name === 'result') due.push(`result ${id}-${number}`)
        // What the dead attempt said may have been told or not.
        if (name === 'requeue') due = [`execution_start ${id}`]
        play.push(() => {
          if (name === 'preview') prompt.frame(preview(id), false)
          else if (name === 'result') prompt.frame(result(`${id}-${number}`), true)
          else if (name === 'other') prompt.message('extension', { prompt_id: id, number })
          else if (name === 'executing' || name === 'executed') prompt[name](String(number))
          else if (name === 'requeue') prompt.requeued()
          else prompt[name](number)
        })
        if (name === 'requeue') play.push(() => prompt.start())
      }
      play.push(() => prompt.finished())
      due.push(`execution_success ${id}`, `executing ${id}:null`)
      relay.holdUntilAnswered(id)
      play.splice(1 + (answeredAfter % play.length), 0, () => {
        expect(sockets.flatMap(({ story }) => story).filter((line) => line.includes(id))).toEqual([])
        relay.answered(id)
      })
      return { id, due, play }
    })
    let nextAside = 0
    for (const choice of planned.order) {
      const prompt = prompts[choice]
      if (prompt) prompt.play.shift()?.()
      else {
        const aside = asides[nextAside++ % asides.length]
        if (aside) onAside(aside)
      }
    }
    for (const { play } of prompts) for (const move of play.splice(0)) move()
    return { prompts, told }
  }

  /** Prompts in the order in which they appear, each with its lines; fails when a line of another lies between. */
  function chapters(story: readonly string[]): Map<string, string[]> {
    const found = new Map<string, string[]>()
    let last: string | undefined
    for (const line of story) {
      if (line.startsWith('status')) continue
      const id = /p\d/.exec(line)?.[0] ?? ''
      const lines = found.get(id)
      if (lines === undefined) found.set(id, [line])
      else {
        expect(id, `${line} lies apart from the others of its prompt`).toBe(last)
        lines.push(line)
      }
      last = id
    }
    return found
  }

  const isDue = (line: string): boolean => /^(execution_|executed|result )|:null$/.test(line)

  function join_(): void {
    const socket = new FakeSocket()
    sockets.push(socket)
    relay.attach(socket, { ...aPrompt(''), clientId: 'c' })
  }

  /** Reads until nothing comes any more. */
  function readOut(socket: FakeSocket | undefined): void {
    for (let before = -1; socket && socket.story.length > before; socket.read()) before = socket.story.length
  }

  it.each([1_000_000, 10_000])(
    'tells each prompt in one piece, in order, nothing due missing (memory %i)',
    async (holdBytes) => {
      await fc.assert(
        fc.asyncProperty(plan(), async (planned) => {
          const asides = (): void => (sockets[0] ? sockets[0].read() : join_())
          const { prompts } = run(planned, ['read'], asides, holdBytes)
          if (sockets.length === 0) join_()
          const [socket] = sockets
          readOut(socket)
          const told = chapters(socket?.story ?? [])
          for (const { id, due } of prompts) {
            const lines = told.get(id) ?? []
            expect(lines[0]).toBe(`execution_start ${id}`)
            expect(lines.at(-1)).toBe(`executing ${id}:null`)
            expect(lines.slice(lines.lastIndexOf(`execution_start ${id}`)).filter(isDue)).toEqual(due)
          }
          expect(socket?.story.at(-2)).toBe('status 0')
          expect(socket?.closeCode).toBeUndefined()
          socket?.leave()
          expect(relay.clientCount).toBe(0)
          expect(readdirSync(dir)).toEqual([])
          await relay.close()
        }),
        { numRuns: 300 },
      )
    },
  )

  it('tells the end of each prompt exactly once to a client that comes and goes', async () => {
    const asides = fc.array(fc.constantFrom<Aside>('read', 'join', 'leave'), { minLength: 1 })
    await fc.assert(
      fc.asyncProperty(plan(), asides, async (planned, moves) => {
        const onAside = (aside: Aside): void => {
          const current = sockets.at(-1)
          if (aside === 'read') current?.read()
          else if (aside === 'leave') current?.leave()
          else if (current === undefined || current.readyState !== 1) join_()
        }
        const { prompts, told } = run(planned, moves, onAside, 10_000)
        sockets.at(-1)?.leave()
        join_()
        readOut(sockets.at(-1))
        for (const { story } of sockets) chapters(story)
        const all = sockets.flatMap(({ story }) => story)
        for (const line of prompts.flatMap(({ due }) => due)) {
          const times = all.filter((one) => one === line).length
          if (line.startsWith('execution_start')) expect(times).toBeGreaterThan(0)
          else expect(times, line).toBe(1)
        }
        sockets.at(-1)?.leave()
        expect(relay.clientCount).toBe(0)
        await relay.close()
        expect(told.toSorted()).toEqual(prompts.map(({ id }) => id))
      }),
      { numRuns: 300 },
    )
  })
})
