import type { Identity } from '../auth/identity.ts'
import type { PromptId } from '../store/store.ts'
import { Audience } from './audience.ts'
import { HeldMessages } from './held-messages.ts'
import type { HoldBudget } from './hold-budget.ts'
import { type DeliveryMode, OrderedDelivery } from './ordered-delivery.ts'
import { statusText } from './own-messages.ts'
import type { Spool } from './spool.ts'
import { StatusPace } from './status-pace.ts'

/** One client: the sockets that gave the same client id, asked for by the same caller. */
export interface Client {
  readonly owner: string
  readonly audience: Audience
  readonly delivery: OrderedDelivery
  readonly pace: StatusPace
  /** What `status` says. */
  count(): number
}

export interface ClientsOptions {
  mode: DeliveryMode
  /** Replaces each client's own count. */
  fleetCount: (() => number) | undefined
  stallMs: number
  budget: HoldBudget
  spool: Spool
  isUnanswered: (promptId: PromptId) => boolean
  onTold: (promptId: PromptId) => void
  /** Runs what a timer calls, and reports its failure. */
  guard: (action: () => void) => void
  /** Milliseconds on a clock that never goes back. */
  now: () => number
}

/** Who is connected or has something to be told. A client is kept no longer than one of these is true. */
export class Clients {
  readonly #options: ClientsOptions
  readonly #clients = new Map<string, Client>()

  constructor(options: ClientsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#clients.size
  }

  all(): IterableIterator<Client> {
    return this.#clients.values()
  }

  find(who: Identity, clientId: string): Client | undefined {
    return this.#clients.get(keyOf(who, clientId))
  }

  obtain(who: Identity, clientId: string): Client {
    const key = keyOf(who, clientId)
    let client = this.#clients.get(key)
    if (client === undefined) {
      client = createClient(who.owner, this.#options)
      this.#clients.set(key, client)
    }
    return client
  }

  /** Forgets it when nothing is left to do for it. */
  release(who: Identity, clientId: string): void {
    const key = keyOf(who, clientId)
    const client = this.#clients.get(key)
    if (client === undefined) return
    if (client.audience.isAbsent) client.pace.settle()
    if (client.audience.writers.size === 0 && client.delivery.count === 0) this.#clients.delete(key)
  }

  /**
   * Forgets ends that absent clients have not fetched by coming back: those at or before `limit`. Clients with nothing
   * else go as well.
   */
  expire(limit: number): void {
    for (const [key, client] of this.#clients) {
      if (!client.audience.isAbsent) continue
      client.delivery.expire(limit)
      if (client.audience.writers.size === 0 && client.delivery.count === 0) this.#clients.delete(key)
    }
  }
}

/** Many callers use the same client id: some clients have a fixed one for everybody. */
const keyOf = ({ owner, caller }: Identity, clientId: string): string => JSON.stringify([owner, caller, clientId])

function createClient(owner: string, options: ClientsOptions): Client {
  const audience: Audience = new Audience({
    stallMs: options.stallMs,
    onRoom: () => options.guard(() => delivery.deliver()),
  })
  const count = (): number => options.fleetCount?.() ?? delivery.count
  const sendStatus = (): void => void audience.send(statusText(count()))
  const pace = new StatusPace({ send: () => options.guard(sendStatus), now: options.now })
  const file = options.spool.file()
  const delivery = new OrderedDelivery({
    mode: options.mode,
    audience,
    hold: () => new HeldMessages(options.budget, file),
    isUnanswered: options.isUnanswered,
    sendStatus: () => {
      pace.settle()
      sendStatus()
    },
    onStart: () => pace.touch(),
    onTold: options.onTold,
  })
  return { owner, audience, delivery, pace, count }
}
