import type { Transaction, Updateable } from 'kysely'
import { executionMs, isEnded, judgeKnownId, newRecord, unfinishedStatuses } from '../admission.ts'
import type { FinishedOutcome, PromptBody, PromptId, PromptRecord, PromptStatus, PromptStore } from '../store.ts'
import { chunks } from './chunks.ts'
import { raiseCounter, takeNumbers } from './counters.ts'
import type { SqlDialect } from './dialect.ts'
import { createSqlPromptFiles, indexFiles } from './prompt-files.ts'
import { createSqlPromptHistory } from './prompt-history.ts'
import { createSqlPromptLists } from './prompt-list.ts'
import { appendLog, createSqlPromptLogs } from './prompt-logs.ts'
import { createSqlPruning } from './prompt-pruning.ts'
import { flag, type PromptRow, toNewRow, toPromptRecord } from './prompt-rows.ts'
import type { SqlContext } from './runner.ts'
import type { PromptsTable, Schema } from './schema.ts'

/** The prompt verbs in SQL that every supported database understands, each one short transaction. */
export function createSqlPrompts(context: SqlContext): PromptStore {
  return {
    ...createLifeCycle(context),
    ...createReads(context),
    ...createSqlPromptLists(context),
    ...createSqlPromptHistory(context),
    ...createSqlPruning(context),
    ...createSqlPromptFiles(context),
    ...createSqlPromptLogs(context),
  }
}

type LifeCycle = Pick<
  PromptStore,
  'admit' | 'publish' | 'discard' | 'startAttempt' | 'markRunning' | 'requeue' | 'finish' | 'cancelQueued' | 'markTold'
>

function createLifeCycle({ runner, clock, dialect }: SqlContext): LifeCycle {
  /** A prompt that this verb is about to change, as it is now. */
  const findToChange = async (trx: Transaction<Schema>, promptId: PromptId) =>
    dialect.forUpdate(promptWith(trx, promptId)).executeTakeFirst()

  return {
    admit: (prompt, { idempotencyMs }) =>
      // The numbers of one gateway are in the order of its calls.
      runner.runInOrder(async (trx, passOn) => {
        const now = await clock(trx)
        const old = await find(trx, prompt.promptId)
        if (old !== undefined) {
          const known = toPromptRecord(old)
          if (judgeKnownId(known, prompt, { now, idempotencyMs }) === 'known') return { kind: 'known', prompt: known }
          await trx.deleteFrom('prompts').where('sequence', '=', old.sequence).execute()
        }
        const record = newRecord(prompt, { sequence: await takeNumbers(trx, 'prompt'), now })
        passOn()
        await trx.insertInto('prompts').values(toNewRow(record)).execute()
        await trx
          .insertInto('prompt_bodies')
          .values({ prompt_sequence: record.sequence, sealed: prompt.body.sealed ?? null, text: prompt.body.text })
          .execute()
        return { kind: 'admitted', prompt: record }
      }),

    publish: (promptId) =>
      runner.run(async (trx) => {
        const row = await findToChange(trx, promptId)
        if (row?.admitted !== 0) return false
        await trx.updateTable('prompts').set({ admitted: 1 }).where('sequence', '=', row.sequence).execute()
        if (isEnded(row.status)) {
          await trx
            .updateTable('prompt_history')
            .set({ visible: 1 })
            .where('prompt_sequence', '=', row.sequence)
            .execute()
        }
        return true
      }),

    discard: (promptId) =>
      runner.run(async (trx) => {
        const row = await findToChange(trx, promptId)
        if (row?.admitted !== 0) return false
        await trx.deleteFrom('prompts').where('sequence', '=', row.sequence).execute()
        return true
      }),

    startAttempt: ({ promptId, workerId, fence, log }) =>
      runner.run(async (trx) => {
        if (!(await raiseCounter(trx, dialect, { name: 'fence', value: fence }))) return undefined
        const row = await findToChange(trx, promptId)
        if (row?.status !== 'queued') return undefined
        const number = row.attempt + 1
        const claimed = await change(trx, row, ['queued'], {
          status: 'dispatching',
          attempt: number,
          worker_id: workerId,
        })
        if (!claimed) return undefined
        await appendLog(trx, row.sequence, { at: await clock(trx), text: log })
        return { promptId, number, workerId }
      }),

    markRunning: (attempt) =>
      runner.run(async (trx) => {
        const row = await findToChange(trx, attempt.promptId)
        if (row?.attempt !== attempt.number) return false
        return change(trx, row, ['dispatching', 'running'], {
          status: 'running',
          started_at: row.started_at ?? (await clock(trx)),
        })
      }),

    requeue: (attempt, why) =>
      runner.run(async (trx) => {
        const row = await findToChange(trx, attempt.promptId)
        if (row?.attempt !== attempt.number) return undefined
        const changes = {
          status: 'queued' as const,
          sent_attempts: row.sent_attempts + (why.sent ? 1 : 0),
          worker_deaths: row.worker_deaths + (why.workerDied ? 1 : 0),
        }
        if (!(await change(trx, row, ['dispatching', 'running'], changes))) return undefined
        await appendLog(trx, row.sequence, { at: await clock(trx), text: why.log })
        return toPromptRecord({ ...row, ...changes })
      }),

    finish: (attempt, outcome, log) =>
      runner.run(async (trx) => {
        const row = await findToChange(trx, attempt.promptId)
        if (row?.attempt !== attempt.number) return undefined
        return end({ trx, dialect }, row, unfinishedStatuses, { outcome, log, now: await clock(trx) })
      }),

    cancelQueued: (promptId, log) =>
      runner.run(async (trx) => {
        const row = await findToChange(trx, promptId)
        if (row === undefined) return undefined
        const outcome: FinishedOutcome = {
          status: 'cancelled',
          reason: log,
          history: undefined,
          summary: undefined,
          files: [],
        }
        return end({ trx, dialect }, row, ['queued'], { outcome, log, now: await clock(trx) })
      }),

    markTold: (promptIds) =>
      runner.run(async (trx) => {
        for (const some of chunks(promptIds)) {
          await trx.updateTable('prompts').set({ told: 1 }).where('prompt_id', 'in', some).execute()
        }
      }),
  }
}

function createReads({
  runner,
}: SqlContext): Pick<PromptStore, 'get' | 'getByGatewayJobId' | 'readBody' | 'readBodies'> {
  const readBodies = (promptIds: readonly PromptId[]) =>
    runner.run(async (trx) => {
      const bodies = new Map<PromptId, PromptBody>()
      for (const some of chunks(promptIds)) {
        const rows = await trx
          .selectFrom('prompts')
          .innerJoin('prompt_bodies', 'prompt_bodies.prompt_sequence', 'prompts.sequence')
          .select(['prompts.prompt_id', 'prompt_bodies.text', 'prompt_bodies.sealed'])
          .where('prompts.prompt_id', 'in', some)
          .execute()
        for (const row of rows) bodies.set(row.prompt_id, { text: row.text, sealed: row.sealed ?? undefined })
      }
      return bodies
    })

  return {
    get: (promptId) => runner.run(async (trx) => asRecord(await find(trx, promptId))),

    getByGatewayJobId: (gatewayJobId) =>
      runner.run(async (trx) =>
        asRecord(
          await trx
            .selectFrom('prompts')
            .selectAll()
            .where('gateway_job_id', '=', gatewayJobId)
            .orderBy('sequence')
            .limit(1)
            .executeTakeFirst(),
        ),
      ),

    readBody: async (promptId) => (await readBodies([promptId])).get(promptId),
    readBodies,
  }
}

function promptWith(trx: Transaction<Schema>, promptId: PromptId) {
  return trx.selectFrom('prompts').selectAll().where('prompt_id', '=', promptId)
}

function find(trx: Transaction<Schema>, promptId: PromptId): Promise<PromptRow | undefined> {
  return promptWith(trx, promptId).executeTakeFirst()
}

function asRecord(row: PromptRow | undefined): PromptRecord | undefined {
  return row === undefined ? undefined : toPromptRecord(row)
}

/**
 * Changes a prompt that was read in this transaction. False when it is in no such status, or has another attempt by
 * now: the condition is checked again by the write itself, because another gateway may have written in between.
 */
async function change(
  trx: Transaction<Schema>,
  row: PromptRow,
  from: readonly PromptStatus[],
  changes: Updateable<PromptsTable>,
): Promise<boolean> {
  const changed = await trx
    .updateTable('prompts')
    .set(changes)
    .where('sequence', '=', row.sequence)
    .where('attempt', '=', row.attempt)
    .where('status', 'in', from)
    .executeTakeFirst()
  return changed.numUpdatedRows > 0n
}

async function end(
  { trx, dialect }: { trx: Transaction<Schema>; dialect: SqlDialect },
  row: PromptRow,
  from: readonly PromptStatus[],
  { outcome, log, now }: { outcome: FinishedOutcome; log: string; now: number },
): Promise<PromptRecord | undefined> {
  if (!from.includes(row.status)) return undefined
  const finish_order = await takeNumbers(trx, 'finish')
  const changes = {
    status: outcome.status,
    reason: outcome.reason ?? null,
    summary: outcome.summary ?? null,
    finished_at: now,
    duration: executionMs({ startedAt: row.started_at ?? undefined, finishedAt: now }),
    finish_order,
    listed: flag(outcome.history !== undefined),
  }
  if (!(await change(trx, row, from, changes))) return undefined
  await trx
    .updateTable('prompt_bodies')
    .set({ sealed: null })
    .where('prompt_sequence', '=', row.sequence)
    .where('sealed', 'is not', null)
    .execute()
  if (outcome.history !== undefined) {
    await trx
      .insertInto('prompt_history')
      .values({
        prompt_sequence: row.sequence,
        prompt_id: row.prompt_id,
        owner: row.owner,
        caller: row.caller,
        visible: flag(row.admitted === 1),
        finish_order,
        text: outcome.history,
      })
      .execute()
  }
  await indexFiles(trx, dialect, { promptId: row.prompt_id, owner: row.owner }, outcome.files)
  await appendLog(trx, row.sequence, { at: now, text: log })
  return toPromptRecord({ ...row, ...changes })
}
