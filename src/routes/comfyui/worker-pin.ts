import type { FastifyReply, FastifyRequest } from 'fastify'
import { HttpError } from '../../errors.ts'
import type { WorkerRegistry } from '../../workers/registry.ts'
import type { Worker } from '../../workers/worker.ts'
import { queryValue } from './comfy-request.ts'

/** One worker that a browser session, or one request, is bound to by its operator. */

const COOKIE = 'comfyfleet_worker'

type Workers = Pick<WorkerRegistry, 'get'>

/** The worker that `?worker=` names. Throws HttpError 400 when there is none of that id; undefined without the parameter. */
export function workerOfQuery(request: Pick<FastifyRequest, 'query'>, workers: Workers): Worker | undefined {
  const id = queryValue(request, 'worker')
  if (id === undefined || id === '') return undefined
  const worker = workers.get(id)
  if (!worker) throw new HttpError(400, 'unknown_worker', 'There is no worker with the id that ?worker= names')
  return worker
}

/** The worker of this browser session. A session bound to a worker that was removed is free again. */
export function workerOfSession(request: Pick<FastifyRequest, 'headers'>, workers: Workers): Worker | undefined {
  const cookies = (request.headers.cookie ?? '').split(';').map((cookie) => cookie.trim())
  const id = cookies.find((cookie) => cookie.startsWith(`${COOKIE}=`))?.slice(COOKIE.length + 1)
  return id === undefined ? undefined : workers.get(id)
}

/** Binds the session to a worker, or frees it. */
export function bindSession(request: FastifyRequest, reply: FastifyReply, worker: Worker | undefined): void {
  const secure = request.protocol === 'https' ? '; Secure' : ''
  const life = worker === undefined ? '; Max-Age=0' : ''
  reply.header('set-cookie', `${COOKIE}=${worker?.id ?? ''}; Path=/; HttpOnly; SameSite=Strict${secure}${life}`)
}
