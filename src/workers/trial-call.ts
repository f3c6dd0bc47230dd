import { createComfyClient, WorkerCallError } from '../comfyui/client.ts'
import { ForbiddenAddressError, isForbiddenAddress, lookupDialable } from '../comfyui/dialable.ts'
import type { Endpoint } from '../comfyui/endpoint.ts'

export interface TrialClocks {
  connectTimeoutMs: number
  /** For the whole answer. */
  timeoutMs: number
}

/**
 * Why no worker may be at this address, in a sentence: it is, or its name stands for, a metadata or link-local address.
 * Undefined when it may be; a name that cannot be resolved now is looked at again at every connection.
 */
export async function whyNotCallable(endpoint: Endpoint, clocks: TrialClocks): Promise<string | undefined> {
  const { hostname, host } = new URL(endpoint.origin)
  const isForbidden = isForbiddenAddress(hostname) || (await resolvesToForbidden(hostname, clocks.connectTimeoutMs))
  return isForbidden ? forbidden(host) : undefined
}

/** Calls once, on a connection of its own. Undefined when a ComfyUI answers; else why not, in a sentence. */
export async function whyNotReached(endpoint: Endpoint, clocks: TrialClocks): Promise<string | undefined> {
  const client = createComfyClient({
    endpoint,
    connectTimeoutMs: clocks.connectTimeoutMs,
    requestTimeoutMs: clocks.timeoutMs,
  })
  try {
    await client.probe({ timeoutMs: clocks.timeoutMs })
    return undefined
  } catch (error) {
    return sentence(error, endpoint, clocks)
  } finally {
    await client.close()
  }
}

function resolvesToForbidden(hostname: string, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), timeoutMs)
    lookupDialable(hostname.replace(/^\[(.*)\]$/, '$1'), { all: true }, (error) => {
      clearTimeout(timer)
      resolve(error instanceof ForbiddenAddressError)
    })
  })
}

const forbidden = (host: string): string => `${host} is a metadata or link-local address, which is never called`
const seconds = (ms: number): string => `${Math.round(ms / 100) / 10} s`

function sentence(error: unknown, endpoint: Endpoint, clocks: TrialClocks): string {
  const { host, hostname, protocol } = new URL(endpoint.origin)
  const code = codeIn(error)
  switch (code) {
    case 'ERR_FORBIDDEN_ADDRESS':
      return forbidden(host)
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `The name ${hostname} cannot be resolved`
    case 'ECONNREFUSED':
      return `Nothing listens at ${host}: the connection was refused`
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EHOSTDOWN':
      return `There is no way to ${host} in the network (${code})`
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'ETIMEDOUT':
      return `No connection to ${host} within ${seconds(clocks.connectTimeoutMs)}`
    case 'EPROTO':
      return `${host} does not speak TLS as it should; perhaps its address starts with http://`
    default:
      if (code !== undefined && isAboutCertificate(code)) {
        return `The certificate of ${host} is not trusted (${code}); give its certificate authority as "ca"`
      }
      if (code?.startsWith('ERR_SSL') === true) {
        return `${host} does not speak TLS as it should; perhaps its address starts with http://`
      }
  }
  if (!(error instanceof WorkerCallError)) return `${host} cannot be reached`
  const { status } = error
  switch (error.fault) {
    case 'timeout':
      return `${host} did not answer within ${seconds(clocks.timeoutMs)}`
    case 'unauthorized':
      return endpoint.headers.authorization === undefined
        ? `${host} asks for a user and a password (${status}); give auth_username and auth_password`
        : `${host} does not accept this user and password (${status})`
    case 'protocol':
      if (status !== undefined && status >= 300 && status < 400) {
        return `${host} answers with a redirect (${status}), which is not followed; give the address that it leads to`
      }
      return `What answers at ${host} is not ComfyUI${status === undefined ? '' : ` (GET /prompt answered ${status})`}`
    default:
      return protocol === 'http:'
        ? `${host} closed the connection without an answer; perhaps its address starts with https://`
        : `${host} closed the connection without an answer`
  }
}

/** What OpenSSL calls a chain, a signature or a name that does not hold. */
const isAboutCertificate = (code: string): boolean =>
  code.includes('CERT') || code.startsWith('ERR_TLS') || code.startsWith('UNABLE_TO_') || code.includes('SIGNATURE')

/** The system's code nearest to the fault, through causes and the tries of several addresses. */
function codeIn(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined
  if ('code' in error && typeof error.code === 'string') return error.code
  if ('errors' in error && Array.isArray(error.errors) && error.errors.length > 0) return codeIn(error.errors[0])
  return 'cause' in error ? codeIn(error.cause) : undefined
}
