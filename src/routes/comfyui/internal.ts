import type { FastifyPluginAsync } from 'fastify'
import { OPEN_OWNER } from '../../auth/identity.ts'
import type { ComfyClient } from '../../comfyui/client.ts'
import { dumpsPython } from '../../comfyui/python-json.ts'
import { parseJson } from '../../comfyui/raw-json.ts'
import { clientSubfolder } from '../../files/names.ts'
import { JSON_TYPE } from '../../queue/submitted-body.ts'
import type { RecentLine, RecentLog } from '../../recent-log.ts'
import type { PromptStore } from '../../store/store.ts'
import { sendEmpty } from './comfy-request.ts'

export interface InternalRoutesOptions {
  recentLog: Pick<RecentLog, 'lines'>
  /** The worker whose folders are named; undefined while it is not up. */
  uiWorker: { current(): Promise<{ client: Pick<ComfyClient, 'getJsonText'> } | undefined> }
  store: Pick<PromptStore, 'newestFiles'>
  /** What owners have uploaded, in no particular order. */
  uploads?: { list(owner: string): Promise<readonly { type: string; subfolder: string; filename: string }[]> }
}

/** A terminal as wide as ComfyUI takes it to be when it has none. */
const SIZE = { cols: 80, rows: 24 }
/** Files that are listed; a person picks one of them. */
const MAX_FILES = 1_000

/** `/internal/*`, which ComfyUI serves without `/api` only; register without prefix. The log is the gateway's own. */
export function internalRoutes({ recentLog, uiWorker, store, uploads }: InternalRoutesOptions): FastifyPluginAsync {
  /** The log tells of everybody's prompts, so a key of one's own does not show it. */
  const linesFor = (owner: string): RecentLine[] => (owner === OPEN_OWNER ? recentLog.lines() : [])

  /** Names as clients know them, newest first: as a literal of a later prompt they map back to the file. */
  async function filesOf(owner: string, type: 'output' | 'temp' | 'input'): Promise<string[]> {
    const made = type === 'input' ? [] : await store.newestFiles({ owner, type, limit: MAX_FILES })
    const uploaded = (await uploads?.list(owner)) ?? []
    const names = [
      ...made.map((file) => `${clientSubfolder(file.token, file.subfolder)}/${file.filename}`),
      ...uploaded
        .filter((upload) => upload.type === type)
        .map(({ subfolder, filename }) => (subfolder === '' ? filename : `${subfolder}/${filename}`)),
    ]
    return [...new Set(names)]
  }

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

    app.get<{ Params: { type: string } }>(
      '/internal/files/:type',
      { schema: { hide: true } },
      async (request, reply) => {
        const { type } = request.params
        reply.type(JSON_TYPE)
        if (type === 'output' || type === 'temp' || type === 'input') {
          return dumpsPython(await filesOf(request.identity.owner, type))
        }
        return reply.code(400).send(dumpsPython({ error: 'Invalid directory type' }))
      },
    )

    app.get('/internal/folder_paths', { schema: { hide: true } }, async (_request, reply) => {
      reply.type(JSON_TYPE)
      const worker = await uiWorker.current()
      const text = await worker?.client.getJsonText('/internal/folder_paths').catch(() => undefined)
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
