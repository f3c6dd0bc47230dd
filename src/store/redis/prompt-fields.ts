import type { PromptTraits } from '../../scheduler/traits.ts'
import type { NewPrompt, PromptRecord, PromptStatus } from '../store.ts'

/** A prompt's hash as `HGETALL` gives it: names and values in turn. Empty for one that is gone. */
export type PromptFields = string[]

/** Fields of a new prompt beside those that the script itself writes. What is not set is absent. */
export function newFields(prompt: NewPrompt): string[] {
  const fields = [
    ...['upstream', prompt.upstreamId, 'caller', prompt.caller],
    ...['admitted', prompt.admitted ? '1' : '0', 'traits', JSON.stringify(prompt.traits)],
  ]
  if (prompt.clientId !== undefined) fields.push('client', prompt.clientId)
  if (prompt.workflowId !== undefined) fields.push('flow', prompt.workflowId)
  if (prompt.priority !== 0) fields.push('priority', String(prompt.priority))
  if (typeof prompt.order === 'number') fields.push('given', '1')
  return fields
}

/** The record of a prompt; undefined when it is gone. */
export function toPromptRecord(flat: PromptFields): PromptRecord | undefined {
  if (flat.length === 0) return undefined
  const fields = new Map<string, string>()
  for (let at = 0; at < flat.length; at += 2) fields.set(flat[at] ?? '', flat[at + 1] ?? '')
  const text = (name: string) => fields.get(name) ?? ''
  const number = (name: string) => Number(fields.get(name) ?? 0)
  const time = (name: string) => (fields.has(name) ? number(name) : undefined)
  // Written by newFields from this very type, and by nothing else.
  const traits = JSON.parse(text('traits')) as PromptTraits
  return {
    promptId: text('id'),
    upstreamId: text('upstream'),
    gatewayJobId: text('job'),
    owner: text('owner'),
    caller: text('caller'),
    clientId: fields.get('client'),
    sequence: number('sequence'),
    number: number('number'),
    numberGiven: fields.has('given'),
    priority: number('priority'),
    // Only the scripts write it, and only these words.
    status: text('status') as PromptStatus,
    admitted: text('admitted') === '1',
    listed: text('listed') === '1',
    attempt: number('attempt'),
    sentAttempts: number('sent'),
    workerDeaths: number('deaths'),
    workerId: fields.get('worker'),
    bodyHash: text('hash'),
    traits,
    workflowId: fields.get('flow'),
    createdAt: number('created'),
    startedAt: time('started'),
    finishedAt: time('finished'),
    reason: fields.get('reason'),
    summary: fields.get('summary'),
    told: text('told') === '1',
  }
}
