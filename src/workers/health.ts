import type { CallFault } from '../comfyui/client.ts'

/** Whether a worker may be given work, and why not. Times are milliseconds of a monotonic clock. */
export type WorkerState =
  | { kind: 'connecting' }
  | { kind: 'healthy' }
  /** No new work; what runs there is asked after, not given up. */
  | { kind: 'suspect'; since: number; reason: string }
  /** What ran there is given up. */
  | { kind: 'down'; since: number; reason: string }

export interface HealthSettings {
  /** Missed checks in a row until a worker is suspect. */
  fall: number
  /** Good checks in a row until one that was down is used again. */
  rise: number
  /** Silence until suspect. */
  suspectAfterMs: number
  /** Refused or reset connections without a break until given up. */
  refusedGiveUpMs: number
  /** No good answer for this long: given up. */
  giveUpMs: number
  /** Bad answers to real calls in a row until no more are sent for a while. */
  tripAfter: number
  tripMs: number
  tripMaxMs: number
}

/** A proxy in front of a worker says with these that nothing is behind it. */
const GATEWAY_STATUSES = new Set([502, 503, 504])

/**
 * One worker's health, from what is observed. Pure: it is told the time, keeps no timers, and its state changes only
 * inside its methods. Active checks (`checked`, `missed`) and real calls (`callFailed`, `callSucceeded`) count apart.
 */
export class WorkerHealth {
  readonly #settings: HealthSettings
  #state: WorkerState = { kind: 'connecting' }
  #socketOpen = false
  #socketReason = 'its socket is not open'
  #hits = 0
  #misses = 0
  #lastSignAt: number
  #lastAnswerAt: number
  #refusedSince: number | undefined
  #lastFault = 'no answer'
  #badAnswers = 0
  #trips = 0
  #trippedUntil = 0

  constructor(settings: HealthSettings, now: number) {
    this.#settings = settings
    this.#lastSignAt = now
    this.#lastAnswerAt = now
  }

  get state(): WorkerState {
    return this.#state
  }

  get lastSignAt(): number {
    return this.#lastSignAt
  }

  /** A check was answered as ComfyUI answers. */
  checked(now: number): void {
    this.#hits++
    this.#misses = 0
    this.#refusedSince = undefined
    this.#lastAnswerAt = now
    this.sign(now)
  }

  /** A check failed. */
  missed(now: number, fault: CallFault, reason: string, status?: number): void {
    this.#hits = 0
    this.#misses++
    this.#lastFault = reason
    this.#noteRefusal(now, fault, status)
    this.evaluate(now)
  }

  /** A real call failed in the worker's part; one failure is enough for suspicion where it casts doubt on what runs. */
  callFailed(now: number, fault: CallFault, reason: string, status?: number): void {
    this.#lastFault = reason
    this.#noteRefusal(now, fault, status)
    if (fault === 'protocol' || fault === 'unauthorized') {
      this.#badAnswers++
      if (this.#badAnswers >= this.#settings.tripAfter || (this.#trips > 0 && now >= this.#trippedUntil)) {
        const pauseMs = Math.min(this.#settings.tripMs * 2 ** this.#trips, this.#settings.tripMaxMs)
        this.#trips++
        this.#trippedUntil = now + pauseMs
        this.#badAnswers = 0
      }
    } else if (fault !== 'aborted' && this.#state.kind === 'healthy') {
      this.#suspect(now, reason)
    }
    this.evaluate(now)
  }

  /** A real call was answered as it should be. */
  callSucceeded(now: number): void {
    this.#badAnswers = 0
    this.#trips = 0
    this.#trippedUntil = 0
    this.#refusedSince = undefined
    this.#lastAnswerAt = now
    this.sign(now)
  }

  /** Any byte came from it. */
  sign(now: number): void {
    this.#lastSignAt = now
    this.evaluate(now)
  }

  socketOpened(now: number): void {
    this.#socketOpen = true
    this.sign(now)
  }

  socketClosed(now: number, reason: string): void {
    this.#socketOpen = false
    this.#socketReason = `its socket is gone (${reason})`
    this.evaluate(now)
  }

  /** Looks at the clock; call it often enough for the shortest setting. */
  evaluate(now: number): void {
    switch (this.#state.kind) {
      case 'connecting':
        // Not down at once: what a former process of ours left running there is not given up by one refusal.
        if (this.#isWell(now) && this.#hits >= 1) this.#state = { kind: 'healthy' }
        else if (this.#misses > 0) this.#suspect(now, this.#lastFault)
        return
      case 'healthy': {
        const doubt = this.#doubt(now)
        if (doubt !== undefined) this.#suspect(now, doubt)
        return
      }
      case 'suspect':
        if (this.#refusedSince !== undefined && now - this.#refusedSince >= this.#settings.refusedGiveUpMs) {
          this.#down(now, this.#lastFault)
        } else if (now - this.#lastAnswerAt >= this.#settings.giveUpMs) {
          this.#down(now, `no good answer for ${Math.round((now - this.#lastAnswerAt) / 1000)} s (${this.#lastFault})`)
        } else if (this.#isWell(now) && this.#hits >= 1) this.#state = { kind: 'healthy' }
        return
      case 'down':
        if (this.#isWell(now) && this.#hits >= this.#settings.rise) this.#state = { kind: 'healthy' }
        return
      default:
        this.#state satisfies never
    }
  }

  #isWell(now: number): boolean {
    return this.#doubt(now) === undefined
  }

  #doubt(now: number): string | undefined {
    if (now < this.#trippedUntil) return `it answered badly (${this.#lastFault})`
    if (!this.#socketOpen) return this.#socketReason
    if (this.#misses >= this.#settings.fall) return `${this.#misses} checks failed (${this.#lastFault})`
    const silentMs = now - this.#lastSignAt
    if (silentMs >= this.#settings.suspectAfterMs) return `silent for ${Math.round(silentMs / 1000)} s`
    return undefined
  }

  #suspect(now: number, reason: string): void {
    this.#hits = 0
    this.#state = { kind: 'suspect', since: now, reason }
  }

  #down(now: number, reason: string): void {
    this.#hits = 0
    this.#state = { kind: 'down', since: now, reason }
  }

  #noteRefusal(now: number, fault: CallFault, status: number | undefined): void {
    const refused =
      fault === 'unreachable' || fault === 'reset' || (status !== undefined && GATEWAY_STATUSES.has(status))
    if (refused) this.#refusedSince ??= now
    else if (fault !== 'aborted') this.#refusedSince = undefined
  }
}
