import type { PromptBody, PromptId, PromptStore } from '../store.ts'
import type { RedisConnection } from './connection.ts'
import { type PromptFields, toPromptRecord } from './prompt-fields.ts'

type Reads = Pick<PromptStore, 'get' | 'getByGatewayJobId' | 'readBody' | 'readBodies'>

/** Ids in one call; a reply of large bodies ends earlier. */
const idsAtOnce = 1_000

/** Single prompts and their bodies. */
export function createRedisPromptReads(connection: RedisConnection): Reads {
  const recordBy = async (script: string, id: string) =>
    toPromptRecord((await connection.call<PromptFields | null>(script, id)) ?? [])

  async function readBodies(promptIds: readonly PromptId[]): Promise<Map<PromptId, PromptBody>> {
    const bodies = new Map<PromptId, PromptBody>()
    for (let at = 0; at < promptIds.length; ) {
      const ids = promptIds.slice(at, at + idsAtOnce)
      const rows = await connection.call<[text: string | null, sealed: string | null][]>('read-bodies', ...ids)
      for (const [row, [text, sealed]] of rows.entries()) {
        if (text !== null) bodies.set(promptIds[at + row] ?? '', { text, sealed: sealed ?? undefined })
      }
      at += rows.length
    }
    return bodies
  }

  return {
    get: (promptId) => recordBy('get', promptId),
    getByGatewayJobId: (gatewayJobId) => recordBy('get-by-job', gatewayJobId),
    readBody: async (promptId) => (await readBodies([promptId])).get(promptId),
    readBodies,
  }
}
