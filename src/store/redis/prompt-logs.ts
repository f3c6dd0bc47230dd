import type { PromptStore } from '../store.ts'
import type { RedisConnection } from './connection.ts'

/** The prompts' own logs, each a list. */
export function createRedisPromptLogs(connection: RedisConnection): Pick<PromptStore, 'log' | 'logOf'> {
  return {
    async log(promptId, text) {
      await connection.call('log', promptId, text)
    },

    async logOf(promptId) {
      const lines = await connection.call<string[]>('log-of', promptId)
      return lines.map((line) => {
        const space = line.indexOf(' ')
        return { at: Number(line.slice(0, space)), text: line.slice(space + 1) }
      })
    },
  }
}
