import type { Insertable, Selectable } from 'kysely'
import type { PromptTraits } from '../../scheduler/traits.ts'
import type { PromptRecord } from '../store.ts'
import type { Flag, PromptsTable } from './schema.ts'

export type PromptRow = Selectable<PromptsTable>

/** A boolean as the tables keep it. */
export function flag(value: boolean): Flag {
  return value ? 1 : 0
}

/** The row of a prompt that is being admitted. */
export function toNewRow(record: PromptRecord): Insertable<PromptsTable> {
  return {
    sequence: record.sequence,
    prompt_id: record.promptId,
    upstream_id: record.upstreamId,
    gateway_job_id: record.gatewayJobId,
    owner: record.owner,
    caller: record.caller,
    client_id: record.clientId ?? null,
    number: record.number,
    number_given: flag(record.numberGiven),
    priority: record.priority,
    status: record.status,
    admitted: flag(record.admitted),
    listed: flag(record.listed),
    attempt: record.attempt,
    sent_attempts: record.sentAttempts,
    worker_deaths: record.workerDeaths,
    worker_id: record.workerId ?? null,
    body_hash: record.bodyHash,
    traits: JSON.stringify(record.traits),
    workflow_id: record.workflowId ?? null,
    created_at: record.createdAt,
    started_at: record.startedAt ?? null,
    finished_at: record.finishedAt ?? null,
    duration: 0,
    finish_order: null,
    reason: record.reason ?? null,
    summary: record.summary ?? null,
    told: flag(record.told),
  }
}

export function toPromptRecord(row: PromptRow): PromptRecord {
  // Written by toNewRow from this very type, and by nothing else. The first release had no inputs in it.
  const traits: PromptTraits = { inputs: [], ...(JSON.parse(row.traits) as Omit<PromptTraits, 'inputs'>) }
  return {
    promptId: row.prompt_id,
    upstreamId: row.upstream_id,
    gatewayJobId: row.gateway_job_id,
    owner: row.owner,
    caller: row.caller,
    clientId: row.client_id ?? undefined,
    sequence: row.sequence,
    number: row.number,
    numberGiven: row.number_given === 1,
    priority: row.priority,
    status: row.status,
    admitted: row.admitted === 1,
    listed: row.listed === 1,
    attempt: row.attempt,
    sentAttempts: row.sent_attempts,
    workerDeaths: row.worker_deaths,
    workerId: row.worker_id ?? undefined,
    bodyHash: row.body_hash,
    traits,
    workflowId: row.workflow_id ?? undefined,
    createdAt: row.created_at,
    startedAt: row.started_at ?? undefined,
    finishedAt: row.finished_at ?? undefined,
    reason: row.reason ?? undefined,
    summary: row.summary ?? undefined,
    told: row.told === 1,
  }
}
