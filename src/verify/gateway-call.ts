/** One request to a gateway and its whole answer; from outside over the network, or inside of it. */
export type GatewayCall = (ask: GatewayRequest) => Promise<GatewayAnswer>

export interface GatewayRequest {
  method: 'GET' | 'POST'
  /** Path and query. */
  path: string
  body?: { type: string; bytes: Buffer } | undefined
}

export interface GatewayAnswer {
  status: number
  body: Buffer
}

/** Milliseconds for one answer. */
const TIMEOUT_MS = 30_000

/** Calls a gateway at an address, whose path stays in front of every other. Rejects when there is no answer. */
export function callOver(url: string): GatewayCall {
  const base = url.replace(/\/+$/, '')
  return async ({ method, path, body }) => {
    const response = await fetch(base + path, {
      method,
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined ? {} : { body: new Uint8Array(body.bytes), headers: { 'content-type': body.type } }),
    })
    return { status: response.status, body: Buffer.from(await response.arrayBuffer()) }
  }
}

export const json = (value: unknown): { type: string; bytes: Buffer } => ({
  type: 'application/json',
  bytes: Buffer.from(JSON.stringify(value)),
})

/** The answer as a JSON object; empty when it is none. */
export function objectIn({ body }: GatewayAnswer): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {} // Read by key, as unknown.
  } catch {
    return {}
  }
}
