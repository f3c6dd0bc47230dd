import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { WorkerCallError } from '../comfyui/client.ts'
import { BodyTooLargeError, errorBody, HttpError, WorkerTimeoutError, WorkerUnreachableError } from '../errors.ts'
import { ComfyAnswer } from '../queue/submitted-body.ts'

/** One place that turns what routes throw into answers: ComfyUI's own, ours, or a 500 that says nothing of the inside. */
export function answerErrors(app: FastifyInstance, options: { maxBodyBytes: number }): void {
  app.setErrorHandler((error: unknown, request, reply) => {
    if (error instanceof ComfyAnswer) return reply.code(error.status).type(error.contentType).send(error.body)
    return send(asHttpError(error, options.maxBodyBytes), request, reply)
  })
}

function send(error: HttpError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error.status >= 500) request.log.warn({ err: error, url: request.routeOptions.url }, 'request failed')
  if (error.retryAfterS !== undefined) reply.header('retry-after', String(Math.ceil(error.retryAfterS)))
  return reply.code(error.status).send(errorBody(error))
}

function asHttpError(error: unknown, maxBodyBytes: number): HttpError {
  if (error instanceof HttpError) return error
  if (error instanceof WorkerCallError) {
    return error.fault === 'timeout'
      ? new WorkerTimeoutError('The worker did not answer in time', error)
      : new WorkerUnreachableError('The worker could not be asked', error)
  }
  const { code, statusCode } = error as Partial<FastifyError> // Every member is looked at before it is used.
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new BodyTooLargeError(maxBodyBytes)
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    const message = error instanceof Error ? error.message : 'Bad request'
    return new HttpError(statusCode, 'bad_request', message, { cause: error })
  }
  return new HttpError(500, 'internal_error', 'The gateway failed to answer', { cause: error })
}
