/** Where one ComfyUI is and what every request to it carries. Nothing of this is sent to any other host. */
export interface Endpoint {
  /** `scheme://host:port`. */
  origin: string
  /** Path in front of ComfyUI's routes, without trailing slash; empty for none. */
  basePath: string
  /** Headers of every request and of the socket's upgrade: auth and what the operator set. */
  headers: Readonly<Record<string, string>>
  /** PEM of a private certificate authority. */
  ca: string | undefined
}

export interface EndpointOptions {
  auth?: { username: string; password: string } | undefined
  headers?: Readonly<Record<string, string>> | undefined
  ca?: string | undefined
}

/** `url`: http or https, without user, query and trailing slash. Throws TypeError when it is no URL. */
export function createEndpoint(url: string, options: EndpointOptions = {}): Endpoint {
  const parsed = new URL(url)
  const { auth } = options
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(options.headers ?? {})) headers[name.toLowerCase()] = value
  if (auth && headers.authorization === undefined) {
    headers.authorization = `Basic ${Buffer.from(`${auth.username}:${auth.password}`, 'utf8').toString('base64')}`
  }
  return {
    origin: parsed.origin,
    basePath: parsed.pathname.replace(/\/+$/, ''),
    headers,
    ca: options.ca,
  }
}

/** The worker's socket URL for a client id. */
export function socketUrl(endpoint: Endpoint, clientId: string): string {
  return `${endpoint.origin.replace(/^http/, 'ws')}${endpoint.basePath}/ws?clientId=${encodeURIComponent(clientId)}`
}
