import type { IndexedFile, PromptStore, WorkerId } from '../store/store.ts'
import { splitSubfolder } from './names.ts'

/** A file as a client asks for it; `subfolder` `/`-separated and checked, `filename` without folders. */
export interface WantedFile {
  owner: string
  type: 'output' | 'temp' | 'input'
  subfolder: string
  filename: string
  promptId: string | undefined
}

/** Where to look, with the folder as a worker knows it. */
export type Place =
  | { kind: 'worker'; workerId: WorkerId; subfolder: string }
  /** Nothing is known of it: any worker may have it. */
  | { kind: 'anywhere'; subfolder: string }
  /** It was there, and another file has its place now; or it is not this owner's. */
  | { kind: 'gone' }

export interface FileLocatorOptions {
  store: Pick<PromptStore, 'findFile' | 'findFileByName' | 'newestOnWorker'>
  /** The worker that a token stands for; `isCurrent` when it is that of the disk it has now. */
  workerOfToken(token: string): { workerId: WorkerId; isCurrent: boolean } | undefined
  /** The number of the disk that a token stands for; higher is newer. */
  diskOf(token: string): number
}

/** Tokens as they are made; only such a folder is looked up as one. */
const TOKEN = /^[0-9a-f]{10}(-\d+)?$/

/** Resolves clients' file names: by the worker's token, then by prompt, then the owner's newest of that name. */
export function createFileLocator({ store, workerOfToken, diskOf }: FileLocatorOptions) {
  return async function locate(wanted: WantedFile): Promise<Place> {
    const { owner, type, filename, promptId } = wanted
    if (type === 'input') return { kind: 'anywhere', subfolder: wanted.subfolder }
    const { head, rest } = splitSubfolder(wanted.subfolder)
    if (TOKEN.test(head)) {
      const found = workerOfToken(head)
      const indexed = await store.findFile({ token: head, type, subfolder: rest, filename })
      if (found) return byToken(found, { token: head, type, subfolder: rest, filename, owner }, indexed)
      if (indexed) return { kind: 'gone' } // Its worker was removed.
    }
    const name = { owner, type, filename }
    const match =
      (promptId &&
        ((await store.findFileByName({ ...name, promptId, subfolder: wanted.subfolder })) ??
          // Flows that lose the folder on the way still say which prompt they mean.
          (wanted.subfolder === ''
            ? await store.findFileByName({ ...name, promptId, subfolder: undefined })
            : undefined))) ||
      (await store.findFileByName({ ...name, promptId: undefined, subfolder: wanted.subfolder }))
    if (!match) return { kind: 'anywhere', subfolder: wanted.subfolder }
    return (await isReplaced(match))
      ? { kind: 'gone' }
      : { kind: 'worker', workerId: match.workerId, subfolder: match.subfolder }
  }

  async function byToken(
    { workerId, isCurrent }: { workerId: WorkerId; isCurrent: boolean },
    file: { token: string; type: 'output' | 'temp'; subfolder: string; filename: string; owner: string },
    indexed: IndexedFile | undefined,
  ): Promise<Place> {
    const { token, owner, ...name } = file
    if (indexed && indexed.owner !== owner) {
      // A cached node announces another's file again; what was announced to this owner stays its own.
      const own = await store.findFileByName({ ...name, owner, promptId: undefined })
      if (own?.token !== token) return { kind: 'gone' }
    }
    if (!isCurrent && (await isReplaced({ ...name, token, workerId }))) return { kind: 'gone' }
    return { kind: 'worker', workerId, subfolder: name.subfolder }
  }

  /** On a newer disk of its worker, or after it was overwritten, its name stands for another file. */
  async function isReplaced(file: Pick<IndexedFile, 'token' | 'workerId' | 'type' | 'subfolder' | 'filename'>) {
    const { token, workerId, type, subfolder, filename } = file
    const newest = await store.newestOnWorker({ workerId, type, subfolder, filename })
    return newest !== undefined && diskOf(newest.token) > diskOf(token)
  }
}

export type LocateFile = ReturnType<typeof createFileLocator>
