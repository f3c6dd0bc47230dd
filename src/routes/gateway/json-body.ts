import type { FastifyInstance, FastifyRequest } from 'fastify'
import { HttpError } from '../../errors.ts'

/**
 * A `preValidation` hook that reads the bytes of a body as JSON, whatever its Content-Type. An empty body is `{}`, since
 * every member may have a default. Throws HttpError 400 when it is not JSON, or would change objects' prototypes.
 */
export function jsonBody(app: FastifyInstance): (request: FastifyRequest) => Promise<void> {
  const parse = app.getDefaultJsonParser('error', 'error')
  return (request) =>
    new Promise((resolve, reject) => {
      const bytes = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
      if (bytes.length === 0) {
        request.body = {}
        return resolve()
      }
      parse(request, bytes.toString('utf8'), (error, value) => {
        if (error) return reject(new HttpError(400, 'invalid_json', 'The body is not valid JSON'))
        request.body = value
        resolve()
      })
    })
}
