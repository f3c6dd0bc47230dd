import type { PromptId, PromptStore } from '../store/store.ts'
import type { Worker } from '../workers/worker.ts'
import type { WorkerFile } from './names.ts'

export interface WorkerDisks {
  /**
   * The token under which clients see a file that a prompt announces. A node that ran made a new file; when its name was
   * given out before, by another prompt, the worker's disk is not the one it was (or the node overwrites), and names
   * get a new token from then on, so that no old link ever shows another picture. A cached node repeats an old name.
   */
  tokenFor(worker: Worker, file: WorkerFile, by: { promptId: PromptId; isCached: boolean }): Promise<string>
}

export function createWorkerDisks(options: {
  store: PromptStore
  /** Gives the worker its next token, durably. */
  renew(worker: Worker): Promise<void>
}): WorkerDisks {
  return {
    async tokenFor(worker, file, by) {
      const known = await options.store.newestOnWorker({ workerId: worker.id, ...file })
      if (!known) return worker.config.token
      if (by.isCached || known.promptId === by.promptId) return known.token
      if (known.token === worker.config.token) await options.renew(worker)
      return worker.config.token
    },
  }
}
