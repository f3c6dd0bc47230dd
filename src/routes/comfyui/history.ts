import type { FastifyPluginAsync } from 'fastify'
import { quotePython } from '../../comfyui/python-json.ts'
import type { PromptHistory } from '../../queue/history.ts'
import type { PromptQueue } from '../../queue/queue.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import { baseUrlOf, queryInteger, readListEdit, sendEmpty } from './comfy-request.ts'

export interface HistoryRoutesOptions {
  history: PromptHistory
  queue: Pick<PromptQueue, 'get'>
}

/** `GET /history`, `GET /history/{id}` and `POST /history` (`clear`: the caller's own, `delete`: the owner's). */
export function historyRoutes({ history, queue }: HistoryRoutesOptions): FastifyPluginAsync {
  return async (app) => {
    app.get('/history', { schema: { hide: true } }, async (request, reply) => {
      const maxItems = queryInteger(request, 'max_items')
      const offset = queryInteger(request, 'offset')
      const { owner } = request.identity
      const bytes = await history.page({ owner, maxItems, offset }, baseUrlOf(request))
      reply.type(JSON_TYPE)
      return bytes
    })

    app.get<{ Params: { promptId: string } }>(
      '/history/:promptId',
      { schema: { hide: true } },
      async (request, reply) => {
        const { promptId } = request.params
        reply.type(JSON_TYPE)
        // The usual question, asked each second until the prompt ends: it need not reach the store.
        if (queue.get(promptId)) return '{}'
        const entry = await history.entry(promptId, request.identity.owner, baseUrlOf(request))
        return entry === undefined ? '{}' : `{${quotePython(promptId)}: ${entry}}`
      },
    )

    app.post('/history', { schema: { hide: true } }, async (request, reply) => {
      const edit = readListEdit(request)
      if (edit.clear) await history.clear(request.identity.caller)
      await history.remove(edit.delete, request.identity.owner)
      return sendEmpty(reply)
    })
  }
}
