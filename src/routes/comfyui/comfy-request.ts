import type { FastifyReply, FastifyRequest } from 'fastify'
import { isTruthy } from '../../comfyui/python-json.ts'
import { decodeUtf8, type JsonNode, member, parseJson, stringValue } from '../../comfyui/raw-json.ts'
import { serverError } from '../../queue/submitted-body.ts'

/** How ComfyUI reads a request and answers without a body, for the routes that do the same. */

/** The body as JSON, whatever its Content-Type. Throws ComfyUI's plain 500 when it is none. */
export function readJson(request: Pick<FastifyRequest, 'body'>): { text: string; root: JsonNode } {
  try {
    const text = decodeUtf8(Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0))
    return { text, root: parseJson(text) }
  } catch {
    throw serverError()
  }
}

/** The body of `POST /queue` and `POST /history`. Throws ComfyUI's plain 500 for what it cannot read either. */
export function readListEdit(request: Pick<FastifyRequest, 'body'>): { clear: boolean; delete: readonly string[] } {
  const { root } = readJson(request)
  if (root.kind !== 'object') throw serverError()
  const ids = member(root, 'delete')
  if (ids !== undefined && ids.kind !== 'array') throw serverError()
  return {
    clear: isTruthy(member(root, 'clear')),
    delete: ids ? ids.items.map(stringValue).filter((id) => id !== undefined) : [],
  }
}

/** A parameter of the query, the first where it is repeated; undefined when it is not there. */
export function queryValue(request: Pick<FastifyRequest, 'query'>, name: string): string | undefined {
  const query = request.query
  if (typeof query !== 'object' || query === null || !Object.hasOwn(query, name)) return undefined
  const value: unknown = Reflect.get(query, name)
  const first: unknown = Array.isArray(value) ? value[0] : value
  return typeof first === 'string' ? first : undefined
}

/** An integer of the query as Python's `int()` reads it. Throws ComfyUI's plain 500 for anything else. */
export function queryInteger(request: Pick<FastifyRequest, 'query'>, name: string): number | undefined {
  const value = queryValue(request, name)
  if (value === undefined) return undefined
  if (!/^\s*[+-]?\d+(_\d+)*\s*$/.test(value)) throw serverError()
  const number = Number(value.replaceAll('_', ''))
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, number))
}

/** Answers without body and without a content type, as ComfyUI does on success and for most refusals. */
export const sendEmpty = (reply: FastifyReply, status = 200): FastifyReply => reply.code(status).send()

/** Scheme and host as the client used them; empty when it named no host. */
export const baseUrlOf = (request: Pick<FastifyRequest, 'protocol' | 'host'>): string =>
  request.host ? `${request.protocol}://${request.host}` : ''
