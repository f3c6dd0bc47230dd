import type { IndexedFile, PromptStore, WorkerId } from '../store/store.ts'
import type { BlobHash } from './blobs/blobs.ts'
import { splitSubfolder } from './names.ts'
import type { UploadName } from './uploads/upload-name.ts'

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
  /** The gateway has the bytes itself. `orElse`: where else they may be, should they be gone by now. */
  | { kind: 'blob'; hash: BlobHash; orElse(): Promise<Place> }
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
  /** The content that an owner has uploaded under a name. */
  uploadOf?(owner: string, name: UploadName): Promise<BlobHash | undefined>
  /** The content of a worker's file that was copied. */
  copyOf?(file: Pick<IndexedFile, 'token' | 'type' | 'subfolder' | 'filename'>): Promise<BlobHash | undefined>
}

/** Tokens as they are made; only such a folder is looked up as one. */
const TOKEN = /^[0-9a-f]{10}(-\d+)?$/

/** Resolves clients' file names: by the worker's token, then by prompt, then the owner's newest of that name. */
export function createFileLocator(options: FileLocatorOptions) {
  const { store, workerOfToken, diskOf } = options
  return async function locate(wanted: WantedFile): Promise<Place> {
    const { owner, type, filename, promptId } = wanted
    const anywhere: Place = { kind: 'anywhere', subfolder: wanted.subfolder }
    const uploaded = async (): Promise<Place | undefined> => {
      const hash = await options.uploadOf?.(owner, { type, subfolder: wanted.subfolder, filename })
      return hash === undefined ? undefined : { kind: 'blob', hash, orElse: async () => anywhere }
    }
    if (type === 'input') return (await uploaded()) ?? anywhere
    const { head, rest } = splitSubfolder(wanted.subfolder)
    if (TOKEN.test(head)) {
      const found = workerOfToken(head)
      const indexed = await store.findFile({ token: head, type, subfolder: rest, filename })
      const file = { token: head, type, subfolder: rest, filename, owner }
      if (found || indexed) return byToken(found, file, indexed)
    }
    const name = { owner, type, filename }
    const ofPrompt =
      promptId === undefined
        ? undefined
        : ((await store.findFileByName({ ...name, promptId, subfolder: wanted.subfolder })) ??
          // Flows that lose the folder on the way still say which prompt they mean.
          (wanted.subfolder === ''
            ? await store.findFileByName({ ...name, promptId, subfolder: undefined })
            : undefined))
    const upload = ofPrompt ? undefined : await uploaded()
    if (upload) return upload
    const match =
      ofPrompt ?? (await store.findFileByName({ ...name, promptId: undefined, subfolder: wanted.subfolder }))
    if (!match) return anywhere
    return copiedOr(match, async () =>
      (await isReplaced(match))
        ? { kind: 'gone' }
        : { kind: 'worker', workerId: match.workerId, subfolder: match.subfolder },
    )
  }

  /** `found` is undefined when the worker was removed. */
  async function byToken(
    found: { workerId: WorkerId; isCurrent: boolean } | undefined,
    file: { token: string; type: 'output' | 'temp'; subfolder: string; filename: string; owner: string },
    indexed: IndexedFile | undefined,
  ): Promise<Place> {
    const { token, owner, ...name } = file
    if (indexed && indexed.owner !== owner) {
      // A cached node announces another's file again; what was announced to this owner stays its own.
      const own = await store.findFileByName({ ...name, owner, promptId: undefined })
      if (own?.token !== token) return { kind: 'gone' }
    }
    const onDisk = async (): Promise<Place> => {
      if (!found) return { kind: 'gone' }
      const { workerId, isCurrent } = found
      if (!isCurrent && (await isReplaced({ ...name, token, workerId }))) return { kind: 'gone' }
      return { kind: 'worker', workerId, subfolder: name.subfolder }
    }
    // Of what is in no index nobody knows whose it is.
    return indexed ? copiedOr({ ...name, token }, onDisk) : onDisk()
  }

  async function copiedOr(
    file: Pick<IndexedFile, 'token' | 'type' | 'subfolder' | 'filename'>,
    orElse: () => Promise<Place>,
  ): Promise<Place> {
    const hash = await options.copyOf?.(file)
    return hash === undefined ? orElse() : { kind: 'blob', hash, orElse }
  }

  /** On a newer disk of its worker, or after it was overwritten, its name stands for another file. */
  async function isReplaced(file: Pick<IndexedFile, 'token' | 'workerId' | 'type' | 'subfolder' | 'filename'>) {
    const { token, workerId, type, subfolder, filename } = file
    const newest = await store.newestOnWorker({ workerId, type, subfolder, filename })
    return newest !== undefined && diskOf(newest.token) > diskOf(token)
  }
}

export type LocateFile = ReturnType<typeof createFileLocator>
