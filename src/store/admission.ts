import { PromptIdInUseError } from '../errors.ts'
import type { NewPrompt, PromptRecord, PromptStatus } from './store.ts'

/** Statuses of prompts that still have a way to go. */
export const unfinishedStatuses = ['queued', 'dispatching', 'running'] as const satisfies readonly PromptStatus[]

/** True when nothing can happen to the prompt any more. */
export function isEnded(status: PromptStatus): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'cancelled'
}

/**
 * What a submit under an id that is known already means: the same submit once more (`known`) or a new use of the id
 * (`replaces`). Throws PromptIdInUseError when the id cannot be used.
 */
export function judgeKnownId(
  old: Pick<PromptRecord, 'owner' | 'bodyHash' | 'status' | 'finishedAt'>,
  submit: Pick<NewPrompt, 'owner' | 'bodyHash'>,
  times: { now: number; idempotencyMs: number },
): 'known' | 'replaces' {
  if (old.owner !== submit.owner) throw new PromptIdInUseError()
  const isCurrent = !isEnded(old.status) || times.now - (old.finishedAt ?? 0) < times.idempotencyMs
  if (!isCurrent) return 'replaces'
  if (old.bodyHash !== submit.bodyHash) throw new PromptIdInUseError()
  return 'known'
}

/** ComfyUI's order key of a new prompt. Never minus zero, which not every back end keeps. */
export function orderNumber(order: NewPrompt['order'], sequence: number): number {
  if (order === undefined) return sequence
  return (order === 'front' ? -sequence : order) + 0
}

/** The record of a prompt at the moment of its admission. */
export function newRecord(prompt: NewPrompt, given: { sequence: number; now: number }): PromptRecord {
  return {
    promptId: prompt.promptId,
    upstreamId: prompt.upstreamId,
    gatewayJobId: prompt.gatewayJobId,
    owner: prompt.owner,
    caller: prompt.caller,
    clientId: prompt.clientId,
    sequence: given.sequence,
    number: orderNumber(prompt.order, given.sequence),
    numberGiven: typeof prompt.order === 'number',
    priority: prompt.priority,
    status: 'queued',
    admitted: prompt.admitted,
    listed: true,
    attempt: 0,
    sentAttempts: 0,
    workerDeaths: 0,
    workerId: undefined,
    bodyHash: prompt.bodyHash,
    traits: prompt.traits,
    workflowId: prompt.workflowId,
    createdAt: given.now,
    startedAt: undefined,
    finishedAt: undefined,
    reason: undefined,
    summary: undefined,
    told: false,
  }
}

/** Milliseconds a prompt ran, from its first start to its end; 0 when it never started or has not ended. */
export function executionMs(record: Pick<PromptRecord, 'startedAt' | 'finishedAt'>): number {
  return record.startedAt === undefined || record.finishedAt === undefined ? 0 : record.finishedAt - record.startedAt
}
