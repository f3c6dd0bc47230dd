import { PromptIdInUseError } from '../../errors.ts'
import { newRecord, orderNumber } from '../admission.ts'
import type { NewPrompt, PromptStore } from '../store.ts'
import type { RedisConnection } from './connection.ts'
import { optional } from './optional.ts'
import { newFields, type PromptFields, toPromptRecord } from './prompt-fields.ts'
import { createRedisPromptFiles } from './prompt-files.ts'
import { createRedisPromptHistory } from './prompt-history.ts'
import { createRedisPromptLists } from './prompt-lists.ts'
import { createRedisPromptLogs } from './prompt-logs.ts'
import { createRedisPruning } from './prompt-pruning.ts'
import { createRedisPromptReads } from './prompt-reads.ts'

/** Texts outlive the age at which pruning forgets their prompts by this, so that expiry never races with pruning. */
const expiryMarginMs = 3_600_000

/** The prompt verbs, each one Lua script; what many prompts need goes on in further ones after the first few hundred. */
export function createRedisPrompts(
  connection: RedisConnection,
  { historyMs }: { historyMs: number | undefined },
): PromptStore {
  const expiryMs = historyMs === undefined ? 0 : Math.ceil(historyMs + expiryMarginMs)
  return {
    ...createLifeCycle(connection, expiryMs),
    ...createRedisPromptReads(connection),
    ...createRedisPromptLists(connection),
    ...createRedisPromptHistory(connection),
    ...createRedisPruning(connection),
    ...createRedisPromptFiles(connection),
    ...createRedisPromptLogs(connection),
  }
}

type LifeCycle = Pick<
  PromptStore,
  'admit' | 'publish' | 'discard' | 'startAttempt' | 'markRunning' | 'requeue' | 'finish' | 'cancelQueued' | 'markTold'
>

type AdmitReply = ['admitted', sequence: number, now: number] | ['known', PromptFields] | ['in use']

function createLifeCycle(connection: RedisConnection, expiryMs: number): LifeCycle {
  const recordOf = async (reply: Promise<PromptFields | null>) => toPromptRecord((await reply) ?? [])

  return {
    async admit(prompt, { idempotencyMs }) {
      const { promptId, owner, bodyHash, gatewayJobId, body } = prompt
      const reply = await connection.call<AdmitReply>(
        'admit',
        idempotencyMs,
        promptId,
        owner,
        bodyHash,
        gatewayJobId,
        orderArgument(prompt.order),
        body.text,
        optional(body.sealed),
        ...newFields(prompt),
      )
      switch (reply[0]) {
        case 'in use':
          throw new PromptIdInUseError()
        case 'known': {
          const known = toPromptRecord(reply[1])
          if (known === undefined) throw new Error('The script answered no record')
          return { kind: 'known', prompt: known }
        }
        case 'admitted':
          return { kind: 'admitted', prompt: newRecord(prompt, { sequence: reply[1], now: reply[2] }) }
        default:
          return reply satisfies never
      }
    },

    publish: async (promptId) => (await connection.call<number>('publish', promptId)) === 1,
    discard: async (promptId) => (await connection.call<number>('discard', promptId)) === 1,

    async startAttempt({ promptId, workerId, fence, log }) {
      const number = await connection.call<number | null>('start-attempt', promptId, workerId, fence, log)
      return number === null ? undefined : { promptId, number, workerId }
    },

    markRunning: async ({ promptId, number }) =>
      (await connection.call<number>('mark-running', promptId, number)) === 1,

    requeue: ({ promptId, number }, { sent, workerDied, log }) =>
      recordOf(connection.call('requeue', promptId, number, sent ? 1 : 0, workerDied ? 1 : 0, log)),

    finish: ({ promptId, number }, { status, reason, history, summary, files }, log) =>
      recordOf(
        connection.call(
          'finish',
          promptId,
          number,
          status,
          optional(reason),
          optional(summary),
          optional(history),
          log,
          expiryMs,
          ...files.flatMap((file) => [file.token, file.workerId, file.type, file.subfolder, file.filename]),
        ),
      ),

    cancelQueued: (promptId, log) => recordOf(connection.call('cancel-queued', promptId, log, expiryMs)),

    async markTold(promptIds) {
      if (promptIds.length > 0) await connection.call('mark-told', ...promptIds)
    },
  }
}

function orderArgument(order: NewPrompt['order']): string {
  return typeof order === 'number' ? String(orderNumber(order, 0)) : (order ?? '')
}
