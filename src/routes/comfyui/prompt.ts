import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import type { Dispatcher } from '../../queue/dispatcher.ts'
import type { PromptQueue } from '../../queue/queue.ts'
import type { Submission } from '../../queue/submission.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import type { Relay } from '../../relay/relay.ts'
import { synthesise } from '../../relay/synthesise.ts'
import type { PromptStore, WorkerId } from '../../store/store.ts'

export interface PromptRoutesOptions {
  submission: Submission
  dispatcher: Dispatcher
  queue: PromptQueue
  store: PromptStore
  relay: Relay
  /** The one worker that may run what this request submits; undefined leaves the choice to the fleet. */
  pinnedWorker: (request: FastifyRequest) => WorkerId | undefined
}

/** `GET /prompt` (how much is ahead) and `POST /prompt` (the way in). */
export function promptRoutes(options: PromptRoutesOptions): FastifyPluginAsync {
  const { submission, dispatcher, queue, store, relay, pinnedWorker } = options
  return async (app) => {
    app.get('/prompt', { schema: { hide: true } }, async (request, reply) => {
      let remaining = 0
      for (const { record } of queue.all()) {
        if (record.admitted && record.caller === request.identity.caller) remaining++
      }
      reply.type(JSON_TYPE)
      return `{"exec_info": {"queue_remaining": ${remaining}}}`
    })

    app.post('/prompt', { schema: { hide: true } }, async (request, reply) => {
      const bytes = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
      const workerId = pinnedWorker(request)
      // Clients miss what comes before the answer, so its messages wait until that has left, or can leave no more.
      reply.raw.once('close', () => {
        for (const promptId of held) relay.answered(promptId)
        dispatcher.wake()
      })
      const held: string[] = []
      const onId = (promptId: string): void => {
        held.push(promptId)
        relay.holdUntilAnswered(promptId)
      }
      const answer = await submission.submit(bytes, request.identity, onId, { workerId })
      const { record } = answer
      if (answer.isRepeat && record.finishedAt !== undefined) {
        const entry = await store.historyEntry(record.promptId)
        const messages = entry && synthesise(record.promptId, entry.text, Date.now())
        if (messages) relay.replay(record, messages)
      }
      reply.type(JSON_TYPE)
      return answer.text
    })
  }
}
