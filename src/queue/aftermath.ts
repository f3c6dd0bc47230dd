import type { PromptStore } from '../store/store.ts'
import type { WorkerRegistry } from '../workers/registry.ts'
import type { AttemptRun, Failed } from './attempt-run.ts'
import { retryUntil } from './durably.ts'
import type { FleetPlacement } from './fleet-placement.ts'
import type { MappedEntry } from './history-entry.ts'
import { endedEntry, errorData, type Failure, frameOf, interruptedData, startData } from './outcome.ts'
import type { Prompt } from './prompt.ts'
import { shownParts } from './prompt-body.ts'
import type { PromptQueue } from './queue.ts'
import { readRefusal } from './refusal.ts'

export interface AftermathSettings {
  maxAttempts: number
  maxWorkerDeaths: number
  rerunPaid: boolean
}

export interface AftermathOptions {
  queue: PromptQueue
  store: PromptStore
  registry: WorkerRegistry
  placement: FleetPlacement
  settings: AftermathSettings
  signal: AbortSignal
}

/** What follows when an attempt ends without a result: elsewhere, once more, or the prompt's end, with the reason. */
export class Aftermath {
  readonly #options: AftermathOptions

  constructor(options: AftermathOptions) {
    this.#options = options
  }

  /** A worker's own 400: another one may judge otherwise; else it is the submitter's answer, or the prompt's end. */
  async refused(run: AttemptRun, text: string): Promise<void> {
    const { prompt, worker, attempt } = run
    if (!attempt) return
    const refusal = readRefusal(text)
    prompt.avoided.add(worker.id)
    if (refusal.isAboutWorker) {
      await this.#options.registry.supervisor(worker.id)?.refreshCatalogue()
      const { able } = this.#options.placement.of(prompt.record.traits)
      if (able.some((other) => other.isUp && !prompt.avoided.has(other.id))) {
        await this.#requeue(run, {
          sent: false,
          workerDied: false,
          log: `${worker.config.name} lacks something: ${refusal.message}`,
        })
        return
      }
    }
    if (!prompt.record.admitted) {
      // Whoever submitted it still waits: the answer is theirs, and nothing of the prompt stays.
      if (await this.#options.queue.discard(prompt)) return run.tellRefusal(text)
    }
    await this.#fail(prompt, attempt.number, { type: 'refused_by_worker', message: refusal.message }, run.wasStartTold)
  }

  /** An attempt is over without a result: the prompt goes back in line, unless enough was tried. */
  async failed(run: AttemptRun, failure: Failed): Promise<void> {
    const { prompt, attempt } = run
    if (!attempt) return
    const verdict: Failure | undefined = failure.isFinal
      ? { type: 'input_lost', message: failure.reason }
      : this.#whyNotAgain(prompt, failure)
    if (prompt.isInterrupted) return this.#endInterrupted(run)
    if (verdict) return this.#fail(prompt, attempt.number, verdict, run.wasStartTold)
    await this.#requeue(run, { sent: failure.sent, workerDied: failure.workerDied, log: failure.reason })
  }

  /** Takes a prompt that was out of memory to a worker with more, once. False: it ends with the entry that is there. */
  async reroute(run: AttemptRun, entry: MappedEntry): Promise<boolean> {
    const { prompt, worker } = run
    if (entry.status !== 'failed' || !isOutOfMemory(entry)) return false
    const { traits } = prompt.record
    const hasLarger = this.#options.placement.wasTooSmall(worker, traits)
    const mayRunAgain = !traits.hasPaidNodes || this.#options.settings.rerunPaid
    if (!hasLarger || !mayRunAgain || prompt.wasOutOfMemory || prompt.isInterrupted) return false
    prompt.wasOutOfMemory = true
    await this.#requeue(run, {
      sent: true,
      workerDied: false,
      log: `out of memory on ${worker.config.name}; once more on a worker with more`,
    })
    return true
  }

  /** Ends a prompt as failed, with a history entry that says why. */
  async #fail(prompt: Prompt, attemptNumber: number, failure: Failure, startTold: boolean): Promise<void> {
    const at = Date.now()
    await this.#endWith(prompt, attemptNumber, {
      status: 'failed',
      reason: failure.message,
      terminal: ['execution_error', errorData(prompt.promptId, failure, at)],
      startTold,
    })
  }

  #endInterrupted(run: AttemptRun): Promise<void> {
    const { prompt, attempt } = run
    return this.#endWith(prompt, attempt?.number ?? 0, {
      status: 'cancelled',
      reason: 'interrupted',
      terminal: ['execution_interrupted', interruptedData(prompt.promptId, Date.now())],
      startTold: run.wasStartTold,
    })
  }

  async #endWith(
    prompt: Prompt,
    attemptNumber: number,
    end: {
      status: 'failed' | 'cancelled'
      reason: string
      terminal: readonly [type: string, data: string]
      startTold: boolean
    },
  ): Promise<void> {
    const { queue, store, signal } = this.#options
    const { record } = prompt
    const start = ['execution_start', startData(prompt.promptId, record.startedAt ?? Date.now())] as const
    await retryUntil(signal, async () => {
      const body = await store.readBody(prompt.promptId)
      const parts = body ? shownParts(body.text, record.clientId, record.createdAt) : { graph: '{}', extraData: '{}' }
      await queue.publish(prompt)
      await queue.finish(
        prompt,
        attemptNumber,
        {
          status: end.status,
          reason: end.reason,
          history: endedEntry(record, parts, [start, end.terminal]),
          summary: `{"outputs_count": 0${end.status === 'failed' ? `, "execution_error": ${end.terminal[1]}` : ''}}`,
          files: [],
        },
        {
          messages: [...(end.startTold ? [] : [frameOf(...start)]), frameOf(...end.terminal)],
          log: `${end.status}: ${end.reason}`,
        },
      )
    })
  }

  #whyNotAgain(prompt: Prompt, failure: Failed): Failure | undefined {
    const { settings } = this.#options
    const { record } = prompt
    if (!failure.sent) return undefined
    const hasStarted = record.startedAt !== undefined
    if (hasStarted && record.traits.hasPaidNodes && !settings.rerunPaid) {
      return {
        type: 'paid_not_rerun',
        message: `It has paid nodes and may have used them, so it is not run again (${failure.reason})`,
      }
    }
    if (failure.workerDied && record.workerDeaths + 1 >= settings.maxWorkerDeaths) {
      return {
        type: 'worker_crashed',
        message: `${record.workerDeaths + 1} workers died while they ran it (${failure.reason})`,
      }
    }
    if (record.sentAttempts + 1 >= settings.maxAttempts) {
      return { type: 'too_many_attempts', message: `${record.sentAttempts + 1} attempts failed (${failure.reason})` }
    }
    return undefined
  }

  async #requeue(run: AttemptRun, why: { sent: boolean; workerDied: boolean; log: string }): Promise<void> {
    const { attempt, prompt } = run
    if (!attempt) return
    const { queue, signal } = this.#options
    await retryUntil(signal, () => queue.requeue(prompt, attempt, why))
    // Its deletion was promised while it was on its way back.
    if (run.isCancelled) await retryUntil(signal, () => queue.cancelWaiting(prompt, 'deleted'))
  }
}

function isOutOfMemory(entry: MappedEntry): boolean {
  return /OutOfMemory|out of memory|Allocation on device/i.test(entry.terminal?.data ?? '')
}
