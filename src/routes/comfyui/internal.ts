import type { FastifyPluginAsync } from 'fastify'
import { OPEN_OWNER } from '../../auth/identity.ts'
import type { ComfyClient } from '../../comfyui/client.ts'
import { dumpsPython } from '../../comfyui/python-json.ts'
import { parseJson } from '../../comfyui/raw-json.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import type { RecentLine, RecentLog } from '../../recent-log.ts'
import { sendEmpty } from './comfy-request.ts'

export interface InternalRoutesOptions {
  recentLog: Pick<RecentLog, 'lines'>
  /** The worker whose folders are named; undefined while it is not up. */
  uiWorker: () => { client: Pick<ComfyClient, 'getJsonText'> } | undefined
}

/** A terminal as wide as ComfyUI takes it to be when it has none. */
const SIZE = { cols: 80, rows: 24 }

/** `/internal/*`, which ComfyUI serves without `/api` only; register without prefix. The log is the gateway's own. */
export function internalRoutes({ recentLog, uiWorker }: InternalRoutesOptions): FastifyPluginAsync {
  /** The log tells of everybody's prompts, so a key of one's own does not show it. */
  const linesFor = (owner: string): RecentLine[] => (owner === OPEN_OWNER ? recentLog.lines() : [])

  return async (app) => {
    app.get('/internal/logs', { schema: { hide: true } }, async ({ identity }, reply) => {
      reply.type(JSON_TYPE)
      return dumpsPython(
        linesFor(identity.owner)
          .map(({ at, text }) => `${at} - ${text}\n`)
          .join(''),
      )
    })

    app.get('/internal/logs/raw', { schema: { hide: true } }, async ({ identity }, reply) => {
      const entries = linesFor(identity.owner).map(({ at, text }) => ({ t: at, m: `${text}\n` }))
      reply.type(JSON_TYPE)
      return dumpsPython({ entries, size: SIZE })
    })

    // Clients that show the log do not start when they cannot subscribe to it. What they get is the log so far.
    app.patch('/internal/logs/subscribe', { schema: { hide: true } }, async (_request, reply) => sendEmpty(reply))

    app.get('/internal/folder_paths', { schema: { hide: true } }, async (_request, reply) => {
      reply.type(JSON_TYPE)
      const text = await uiWorker()
        ?.client.getJsonText('/internal/folder_paths')
        .catch(() => undefined)
      return text !== undefined && isObject(text) ? text : '{}'
    })
  }
}

function isObject(text: string): boolean {
  try {
    return parseJson(text).kind === 'object'
  } catch {
    return false
  }
}
