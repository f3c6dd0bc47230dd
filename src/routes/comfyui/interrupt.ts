import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { isTruthy } from '../../comfyui/python-json.ts'
import { decodeUtf8, type JsonNode, member, parseJson, stringValue } from '../../comfyui/raw-json.ts'
import { type Prompt, sees } from '../../queue/prompt.ts'
import type { PromptQueue } from '../../queue/queue.ts'
import { interruptRunning, type StopServices } from '../../queue/stop.ts'
import { serverError } from '../../queue/submitted-body.ts'
import { atMost } from '../../workers/at-most.ts'
import type { WorkerRegistry } from '../../workers/registry.ts'
import { queryValue, readJson, sendEmpty } from './comfy-request.ts'

export interface InterruptRoutesOptions {
  queue: PromptQueue
  dispatcher: StopServices['dispatcher']
  registry: Pick<WorkerRegistry, 'list'>
}

/** Milliseconds the answer of `POST /free` waits for the workers. */
const WORKERS_MS = 2_000

/** `POST /interrupt` (one prompt, or the caller's own that run) and `POST /free` (all workers). */
export function interruptRoutes(options: InterruptRoutesOptions): FastifyPluginAsync {
  const { queue, registry } = options
  return async (app) => {
    app.post('/interrupt', { schema: { hide: true } }, async (request, reply) => {
      const prompts = interruptedBy(request, queue)
      await Promise.all(prompts.map((prompt) => interruptRunning(options, prompt)))
      return sendEmpty(reply)
    })

    app.post('/free', { schema: { hide: true } }, async (request, reply) => {
      const { text, root } = readJson(request)
      if (root.kind !== 'object') throw serverError()
      const workers = registry.list().filter(({ state }) => state.kind === 'healthy')
      const calls = workers.map(async (worker) => {
        try {
          await worker.client.free(text)
        } catch (error) {
          request.log.debug({ workerId: worker.id, err: error }, 'a worker could not be asked to free memory')
        }
      })
      await atMost(WORKERS_MS, Promise.all(calls))
      return sendEmpty(reply)
    })
  }
}

/** With an id that prompt if the caller may see it; without one, what the caller (or only its `clientId`) has running. */
function interruptedBy(request: FastifyRequest, queue: PromptQueue): Prompt[] {
  const { identity } = request
  const wanted = promptIdIn(request)
  if (isTruthy(wanted)) {
    const promptId = stringValue(wanted)
    const prompt = promptId === undefined ? undefined : queue.get(promptId)
    return prompt && sees(identity, prompt.record.owner) ? [prompt] : []
  }
  const clientId = queryValue(request, 'clientId')
  return [...queue.all()].filter(
    ({ record }) =>
      record.status === 'running' && record.caller === identity.caller && (!clientId || record.clientId === clientId),
  )
}

/** The official front end sends an empty body as JSON: ComfyUI takes all that it cannot read for no id. */
function promptIdIn({ body }: FastifyRequest): JsonNode | undefined {
  let root: JsonNode
  try {
    root = parseJson(decodeUtf8(Buffer.isBuffer(body) ? body : Buffer.alloc(0)))
  } catch {
    return undefined
  }
  if (root.kind !== 'object') throw serverError()
  return member(root, 'prompt_id')
}
