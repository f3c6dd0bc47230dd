/** What one run of the chaos test does, decided by its seed alone: who submits what, and what dies when. */

export interface ChaosScale {
  clients: number
  /** In all, spread evenly. */
  prompts: number
  /** Each is killed once. */
  workers: number
  gatewayKills: number
}

/** A picture to make. Its colour is its identity: unlike ids it also survives being mapped or repeated. */
export interface Work {
  colour: number
  width: number
  height: number
  sleepMs: number
  /** Its last node is told to fail. */
  fails: boolean
  /** Sent along as `prompt_id`; undefined: the gateway is to give one. */
  ownId: string | undefined
}

export interface PlannedFault {
  target: { kind: 'worker'; index: number } | { kind: 'gateway' }
  /** Due when this many prompts have ended, and then so much later. */
  afterEnded: number
  delayMs: number
  /** Between death and restart. */
  downMs: number
}

export interface ChaosPlan {
  seed: number
  scale: ChaosScale
  /** Per client. */
  work: readonly (readonly Work[])[]
  /** In order. */
  faults: readonly PlannedFault[]
  /** Short: a killed worker is given up before it is back. Long: it is back first, and has forgotten everything. */
  refusedGiveUpMs: number
}

/** A planned colour with this bit turned is nobody's planned colour. */
export const SPARE_COLOURS = 0x800000

/** Spreads the colours over the range, so that a wrong picture is not one count away. Odd, so that none comes twice. */
const COLOUR_STEP = 40_503
const LONGEST_SLEEP_MS = 200
const MAX_DOWN_MS = 2_000
const MAX_DELAY_MS = 300
/** A worker that dies while the gateway is away or has just come back is the hardest case, so it is sought. */
const MAX_TOGETHER_MS = 1_800

export function planChaos(seed: number, scale: ChaosScale): ChaosPlan {
  const random = randomFrom(seed)
  const upTo = (limit: number): number => Math.floor(random() * limit)
  let made = 0
  const work = Array.from({ length: scale.clients }, (_, client) =>
    Array.from({ length: Math.ceil((scale.prompts - client) / scale.clients) }, (): Work => {
      made++
      const kind = random()
      return {
        colour: (made * COLOUR_STEP) & 0xffffff,
        width: 1 + upTo(32),
        height: 1 + upTo(32),
        sleepMs: 5 + upTo(LONGEST_SLEEP_MS - 5),
        fails: random() < 0.06,
        ownId: kind < 0.3 ? undefined : kind < 0.4 ? `picture ${made} of client ${client}` : uuidFrom(upTo),
      }
    }),
  )
  return {
    seed,
    scale,
    work,
    faults: planFaults(scale, upTo),
    refusedGiveUpMs: random() < 0.5 ? 300 : 2_500,
  }
}

function planFaults(scale: ChaosScale, upTo: (limit: number) => number): PlannedFault[] {
  const targets: PlannedFault['target'][] = shuffled(
    [
      ...Array.from({ length: scale.workers }, (_, index) => ({ kind: 'worker' as const, index })),
      ...Array.from({ length: scale.gatewayKills }, () => ({ kind: 'gateway' as const })),
    ],
    upTo,
  )
  const faults: PlannedFault[] = []
  for (const [index, target] of targets.entries()) {
    const before = faults.at(-1)
    const isTogether = target.kind === 'worker' && before?.target.kind === 'gateway'
    const share = 0.04 + (0.8 * (index + upTo(1_000) / 1_000)) / targets.length
    faults.push({
      target,
      afterEnded: isTogether ? before.afterEnded : Math.floor(scale.prompts * share),
      delayMs: isTogether ? upTo(MAX_TOGETHER_MS) : upTo(MAX_DELAY_MS),
      downMs: upTo(2) === 0 ? 0 : upTo(MAX_DOWN_MS),
    })
  }
  return faults
}

function shuffled<T>(list: readonly T[], upTo: (limit: number) => number): T[] {
  const rest = [...list]
  return list.flatMap(() => rest.splice(upTo(rest.length), 1))
}

function uuidFrom(upTo: (limit: number) => number): string {
  const digits = Array.from({ length: 32 }, () => upTo(16).toString(16)).join('')
  return `${digits.slice(0, 8)}-${digits.slice(8, 12)}-4${digits.slice(13, 16)}-a${digits.slice(17, 20)}-${digits.slice(20)}`
}

/** Numbers from 0 up to 1 that the seed decides (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
