import type { FinishedOutcome, NewPrompt, OutputFile } from '../../src/store/store.ts'

/** A prompt to admit, plain but for what the test names. */
export function aPrompt(given: Partial<NewPrompt> & { promptId: string }): NewPrompt {
  return {
    upstreamId: `upstream-${given.promptId}`,
    gatewayJobId: `job-${given.promptId}`,
    owner: 'open',
    caller: '127.0.0.1',
    clientId: undefined,
    priority: 0,
    admitted: true,
    bodyHash: 'hash',
    traits: {
      classTypes: ['KSampler'],
      combos: [],
      outputs: ['9'],
      nodeCount: 7,
      sizes: [],
      hasPaidNodes: false,
      pinnedWorkerIds: [],
      inputs: [],
    },
    workflowId: undefined,
    order: undefined,
    body: { text: '{"prompt":{}}', sealed: undefined },
    ...given,
  }
}

/** A success with a history entry and no files, but for what the test names. */
export function anOutcome(given: Partial<FinishedOutcome> = {}): FinishedOutcome {
  return { status: 'succeeded', reason: undefined, history: '{"outputs":{}}', summary: undefined, files: [], ...given }
}

export function aFile(given: Partial<OutputFile> = {}): OutputFile {
  return { token: 't1', workerId: 'w1', type: 'output', subfolder: '', filename: 'ComfyUI_00001_.png', ...given }
}
