import type { Identity } from '../auth/identity.ts'
import type { PromptId, PromptRecord, WorkerId } from '../store/store.ts'
import type { PromptRef } from './events.ts'
import type { Waiting } from './waiting-line.ts'

/** How far a running prompt is, from its worker's messages. */
export interface Progress {
  /** Node that runs, as the worker names it. */
  node: string | undefined
  value: number
  max: number
  /** Nodes that are done, of `totalNodes`. */
  finishedNodes: number
}

/** An unfinished prompt in memory: its record and what is known of it just now. The text stays in the store. */
export class Prompt implements Waiting {
  record: PromptRecord
  readonly progress: Progress = { node: undefined, value: 0, max: 0, finishedNodes: 0 }
  /** Why it waits, in words; undefined while nothing keeps it. */
  waitReason: string | undefined
  /** Workers that refused it or failed while they took it; not tried again while others can be. */
  readonly avoided = new Set<WorkerId>()
  /** It was out of memory once and is being tried where there is more. */
  wasOutOfMemory = false
  /** Somebody asked to stop it while it ran: it is not run again. */
  isInterrupted = false

  constructor(record: PromptRecord) {
    this.record = record
  }

  get promptId(): PromptId {
    return this.record.promptId
  }
  get caller(): string {
    return this.record.caller
  }
  get priority(): number {
    return this.record.priority
  }
  get number(): number {
    return this.record.number
  }
  get sequence(): number {
    return this.record.sequence
  }

  get ref(): PromptRef {
    const { promptId, owner, caller, clientId } = this.record
    return { promptId, owner, caller, clientId }
  }

  resetProgress(): void {
    Object.assign(this.progress, { node: undefined, value: 0, max: 0, finishedNodes: 0 })
  }
}

/** True when this identity may see what belongs to that owner. */
export const sees = (identity: Pick<Identity, 'owner'>, owner: string): boolean => identity.owner === owner
