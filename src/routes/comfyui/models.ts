import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { mergeJsonLists, stringsOf } from '../../comfyui/merge-lists.ts'
import { NoWorkerError } from '../../errors.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import type { FleetReader } from '../../workers/fleet-reader.ts'
import { sendEmpty } from './comfy-request.ts'

const MAX_AGE_MS = 5_000

/** `/models`, `/embeddings` and `/experiment/models`: what any healthy worker has, the first worker's order first. */
export function modelRoutes({ reader }: { reader: FleetReader }): FastifyPluginAsync {
  /** Undefined when no worker has that. */
  async function merged(path: string): Promise<string | undefined> {
    const answers = await reader.read(path, { maxAgeMs: MAX_AGE_MS })
    return answers.length > 0 ? mergeJsonLists(answers.map(({ text }) => text)) : undefined
  }

  async function whole(path: string, reply: FastifyReply): Promise<string> {
    const text = await merged(path)
    if (text === undefined) throw new NoWorkerError()
    reply.type(JSON_TYPE)
    return text
  }

  /** A folder is asked for only when a worker lists it, so that made-up names do not reach the workers. */
  async function folder(base: string, name: string, reply: FastifyReply): Promise<FastifyReply> {
    const folders = await merged('/models')
    if (folders === undefined) throw new NoWorkerError()
    const text = stringsOf(folders).includes(name) ? await merged(`${base}/${encodeURIComponent(name)}`) : undefined
    return text === undefined ? sendEmpty(reply, 404) : reply.type(JSON_TYPE).send(text)
  }

  return async (app) => {
    for (const path of ['/models', '/embeddings', '/experiment/models']) {
      app.get(path, { schema: { hide: true } }, async (_request, reply) => whole(path, reply))
    }
    for (const base of ['/models', '/experiment/models']) {
      app.get<{ Params: { folder: string } }>(`${base}/:folder`, { schema: { hide: true } }, async (request, reply) =>
        folder(base, request.params.folder, reply),
      )
    }
  }
}
