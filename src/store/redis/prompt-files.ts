import type { IndexedFile, OutputFile, PromptStore } from '../store.ts'
import type { RedisConnection } from './connection.ts'
import { optional } from './optional.ts'

type FileVerbs = Pick<PromptStore, 'findFile' | 'findFileByName' | 'newestOnWorker' | 'newestFiles'>

type FileRow = [
  place: string,
  token: string,
  workerId: string,
  type: string,
  subfolder: string,
  filename: string,
  owner: string,
  promptId: string,
]

/** Files in one call. */
const filesAtOnce = 1_000

/** The index of files: each question about the newest of a name is one look-up in a sorted set. */
export function createRedisPromptFiles(connection: RedisConnection): FileVerbs {
  const newest = async (type: OutputFile['type'], filename: string, ...question: string[]) =>
    fileOrNone(await connection.call<FileRow | null>('find-file', type, filename, ...question), type)

  return {
    findFile: ({ token, type, subfolder, filename }) => newest(type, filename, 'token subfolder', token, subfolder),

    newestOnWorker: ({ workerId, type, subfolder, filename }) =>
      newest(type, filename, 'worker subfolder', workerId, subfolder),

    async findFileByName({ owner, promptId, type, subfolder, filename }) {
      if (promptId !== undefined) {
        const wanted = [promptId, type, filename, optional(owner), optional(subfolder)]
        return fileOrNone(await connection.call<FileRow | null>('find-prompt-file', ...wanted), type)
      }
      if (owner !== undefined && subfolder !== undefined) {
        return newest(type, filename, 'owner subfolder', owner, subfolder)
      }
      if (owner !== undefined) return newest(type, filename, 'owner', owner)
      return subfolder === undefined ? newest(type, filename, 'any') : newest(type, filename, 'subfolder', subfolder)
    },

    async newestFiles({ owner, type, limit }) {
      const files: IndexedFile[] = []
      while (files.length < limit) {
        const wanted = Math.min(filesAtOnce, limit - files.length)
        const rows = await connection.call<FileRow[]>('newest-files', type, owner, wanted, files.length)
        for (const row of rows) files.push(toIndexedFile(row, type))
        if (rows.length < wanted) break
      }
      return files
    },
  }
}

function fileOrNone(row: FileRow | null, type: OutputFile['type']): IndexedFile | undefined {
  return row === null ? undefined : toIndexedFile(row, type)
}

function toIndexedFile(row: FileRow, type: OutputFile['type']): IndexedFile {
  const [place, token, workerId, , subfolder, filename, owner, promptId] = row
  return { token, workerId, type, subfolder, filename, owner, promptId, sequence: Number(place) }
}
