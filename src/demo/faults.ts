/** What goes wrong with a request, and when: before the worker did its part, or after. */
export type Fault =
  /** Answers at once without doing anything. */
  | { kind: 'status'; status: number; body?: string; contentType?: string }
  | { kind: 'html'; status?: number }
  | { kind: 'garbage' }
  | { kind: 'empty' }
  | { kind: 'empty-object' }
  /** Bytes that are not HTTP. */
  | { kind: 'not-http' }
  /** Two different Content-Length headers. */
  | { kind: 'two-lengths' }
  /** Says more bytes than it sends, then ends the connection. */
  | { kind: 'truncated' }
  /** Never answers; nothing was done. */
  | { kind: 'hang' }
  /** Resets the connection; nothing was done. */
  | { kind: 'reset-before' }
  /** Does its part, then resets the connection. */
  | { kind: 'reset-after' }
  /** Does its part, then never answers. */
  | { kind: 'hang-after' }
  /** Waits, then does its part and answers. */
  | { kind: 'delay'; ms: number }
  /** Sends the right answer, head included, one byte every `msPerByte`. */
  | { kind: 'slow'; msPerByte?: number }
  /** A JSON answer of that many bytes; without a number it never ends. */
  | { kind: 'huge'; bytes?: number }
  /** Does its part, and answers with another prompt's id. */
  | { kind: 'wrong-id'; promptId?: string }

export interface FaultRule {
  fault: Fault
  /** Applies to so many requests; default: until cleared. */
  times: number
}

/** Which routes misbehave. A route is a method and a bare path, such as `POST /prompt`, `GET /history/*`, or `*` for all. */
export class FaultPlan {
  readonly #rules = new Map<string, FaultRule>()

  /** Replaces the route's fault. */
  set(route: string, fault: Fault, { times = Number.POSITIVE_INFINITY }: { times?: number } = {}): void {
    this.#rules.set(route, { fault, times })
  }

  /** Without a route, all faults go. */
  clear(route?: string): void {
    if (route === undefined) this.#rules.clear()
    else this.#rules.delete(route)
  }

  /** The fault for this request; uses up one of its times. */
  take(method: string, barePath: string): Fault | undefined {
    const wanted = `${method} ${barePath}`
    for (const [route, rule] of this.#rules) {
      if (!matches(route, wanted)) continue
      rule.times -= 1
      if (rule.times <= 0) this.#rules.delete(route)
      return rule.fault
    }
    return undefined
  }
}

function matches(route: string, wanted: string): boolean {
  return route.endsWith('*') ? wanted.startsWith(route.slice(0, -1)) : route === wanted
}
