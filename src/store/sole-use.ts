import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import { StoreOpenError } from './open-error.ts'
import type { LeaseStore } from './store.ts'

export interface SoleUseOptions {
  leases: LeaseStore
  /** Who this is. A gateway that nobody can share its store with keeps one name over restarts; others take a new one. */
  holder: string
  ttlMs: number
  renewMs: number
  /** Another gateway has taken the store over: this one must stop at once. */
  onLost(): void
  log: Pick<Logger, 'warn' | 'info'>
}

const NAME = 'leader'
const RETRY_MS = 500

/** The lease of the one gateway that dispatches from a store. */
export class SoleUse {
  readonly #options: SoleUseOptions
  #fence: number
  readonly #timer: NodeJS.Timeout

  private constructor(options: SoleUseOptions, fence: number) {
    this.#options = options
    this.#fence = fence
    this.#timer = setInterval(() => void this.#renew(), options.renewMs)
  }

  /**
   * Takes the lease, waiting for that of a gateway that was killed to run out. Throws StoreOpenError when another
   * gateway goes on renewing it.
   */
  static async take(options: SoleUseOptions): Promise<SoleUse> {
    const { leases, holder, ttlMs, log } = options
    const deadline = performance.now() + ttlMs + RETRY_MS
    for (let isFirst = true; ; isFirst = false) {
      const lease = await leases.acquire({ name: NAME, holder, ttlMs })
      if (lease) return new SoleUse(options, lease.fence)
      if (performance.now() > deadline) {
        throw new StoreOpenError('Another gateway uses this store; several gateways on one store are not supported yet')
      }
      if (isFirst) log.info('waiting for the lease of another gateway to run out')
      await pause(RETRY_MS)
    }
  }

  /** Goes with every claim; the store refuses older ones. */
  get fence(): number {
    return this.#fence
  }

  async release(): Promise<void> {
    clearInterval(this.#timer)
    await this.#options.leases.release({ name: NAME, holder: this.#options.holder })
  }

  async #renew(): Promise<void> {
    const { leases, holder, ttlMs, onLost, log } = this.#options
    try {
      const lease = await leases.acquire({ name: NAME, holder, ttlMs })
      if (lease) this.#fence = lease.fence
      else onLost()
    } catch (error) {
      log.warn({ err: error }, 'the lease could not be renewed')
    }
  }
}
