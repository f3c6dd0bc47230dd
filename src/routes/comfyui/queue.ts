import type { FastifyPluginAsync } from 'fastify'
import { dumpsPython } from '../../comfyui/python-json.ts'
import { type Prompt, sees } from '../../queue/prompt.ts'
import type { PromptQueue } from '../../queue/queue.ts'
import type { QueueListing } from '../../queue/queue-listing.ts'
import { dropPending, type StopServices } from '../../queue/stop.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import type { WorkerRegistry } from '../../workers/registry.ts'
import type { Worker } from '../../workers/worker.ts'
import { queryValue, readListEdit, sendEmpty } from './comfy-request.ts'

export interface QueueRoutesOptions {
  queue: PromptQueue
  listing: QueueListing
  registry: Pick<WorkerRegistry, 'list'>
  dispatcher: StopServices['dispatcher']
}

/** Prompts deleted together: one write of the store, between which others have their turn. */
const DROPPED_AT_ONCE = 200

/** `GET /queue` (ComfyUI's members, and beside them what each worker holds) and `POST /queue` (`clear`, `delete`). */
export function queueRoutes(options: QueueRoutesOptions): FastifyPluginAsync {
  const { queue, listing, registry } = options
  return async (app) => {
    app.get('/queue', { schema: { hide: true } }, async (request, reply) => {
      const members = await listing.members(request.identity)
      reply.type(JSON_TYPE)
      return Buffer.concat([
        Buffer.from('{'),
        members,
        Buffer.from(`, ${dumpsPython(fleetOf(registry.list(), queue)).slice(1)}`),
      ])
    })

    app.post('/queue', { schema: { hide: true } }, async (request, reply) => {
      const edit = readListEdit(request)
      const { identity } = request
      const clientId = queryValue(request, 'clientId')
      const isClients = ({ record }: Prompt): boolean =>
        record.caller === identity.caller && (!clientId || record.clientId === clientId)
      const doomed = new Set<Prompt>()
      if (edit.clear) for (const prompt of queue.all()) if (isClients(prompt)) doomed.add(prompt)
      for (const promptId of edit.delete) {
        const prompt = queue.get(promptId)
        if (prompt && sees(identity, prompt.record.owner)) doomed.add(prompt)
      }
      await drop(
        options,
        [...doomed].filter(({ record }) => record.admitted),
      )
      return sendEmpty(reply)
    })
  }
}

async function drop(services: StopServices, prompts: readonly Prompt[]): Promise<void> {
  for (let at = 0; at < prompts.length; at += DROPPED_AT_ONCE) {
    await Promise.all(prompts.slice(at, at + DROPPED_AT_ONCE).map((prompt) => dropPending(services, prompt)))
  }
}

/** What each worker holds, ours and others', and the sums with what waits here. Prompts that are not visible yet do not count. */
function fleetOf(workers: readonly Worker[], queue: PromptQueue): object {
  const rows = workers.map((worker) => {
    const row = {
      worker_id: worker.id,
      name: worker.config.name,
      queue_running: worker.foreignRunning,
      queue_pending: worker.foreignPending,
    }
    for (const promptId of worker.inFlight.keys()) {
      const record = queue.get(promptId)?.record
      if (!record?.admitted) continue
      if (record.status === 'running') row.queue_running++
      else row.queue_pending++
    }
    return row
  })
  return {
    workers: rows,
    total_running: rows.reduce((sum, row) => sum + row.queue_running, 0),
    total_pending: rows.reduce((sum, row) => sum + row.queue_pending, queue.waitingCount),
  }
}
