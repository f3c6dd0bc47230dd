import { atMost } from '../workers/at-most.ts'
import type { AttemptRun } from './attempt-run.ts'
import type { Prompt } from './prompt.ts'
import type { PromptQueue } from './queue.ts'

export interface StopServices {
  queue: Pick<PromptQueue, 'cancelWaiting'>
  dispatcher: { runOf(promptId: string): Pick<AttemptRun, 'cancel' | 'interrupt'> | undefined }
}

/** Milliseconds that a caller waits for a worker which was asked to stop something. */
const WORKER_MS = 2_000

/**
 * Deletes a prompt that has not started, without trace: here, or on the worker it was just sent to (resolves when it is
 * gone there, or after two seconds; should it have started meanwhile, it is interrupted). False for one that runs or has
 * ended.
 */
export async function dropPending({ queue, dispatcher }: StopServices, prompt: Prompt): Promise<boolean> {
  if (prompt.record.status === 'queued' && (await queue.cancelWaiting(prompt, 'deleted'))) return true
  // Read anew: it may have been sent while the store was asked.
  if (prompt.record.status !== 'dispatching') return false
  const run = dispatcher.runOf(prompt.promptId)
  if (run) await atMost(WORKER_MS, run.cancel())
  return run !== undefined
}

/** Interrupts a prompt that runs; its end comes as the worker tells it. False for one that does not run. */
export async function interruptRunning({ dispatcher }: StopServices, prompt: Prompt): Promise<boolean> {
  if (prompt.record.status !== 'running') return false
  const run = dispatcher.runOf(prompt.promptId)
  if (run) await atMost(WORKER_MS, run.interrupt())
  return run !== undefined
}
