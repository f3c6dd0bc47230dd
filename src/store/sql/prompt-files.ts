import type { Selectable, SelectQueryBuilder, Transaction } from 'kysely'
import type { IndexedFile, OutputFile, PromptStore } from '../store.ts'
import { chunks } from './chunks.ts'
import { takeNumbers } from './counters.ts'
import type { SqlDialect } from './dialect.ts'
import type { SqlContext } from './runner.ts'
import type { PromptFilesTable, Schema } from './schema.ts'

/** Enters the files of a prompt in the index, in their order. */
export async function indexFiles(
  trx: Transaction<Schema>,
  dialect: SqlDialect,
  prompt: { promptId: string; owner: string },
  files: readonly OutputFile[],
): Promise<void> {
  if (files.length === 0) return
  const first = await takeNumbers(trx, 'file', files.length)
  const rows = files.map((file, at) => ({
    sequence: first + at,
    prompt_id: prompt.promptId,
    owner: prompt.owner,
    worker_id: file.workerId,
    token: file.token,
    type: file.type,
    subfolder: file.subfolder,
    filename: file.filename,
    filename_key: dialect.keyOf(file.filename),
  }))
  for (const some of chunks(rows)) await trx.insertInto('prompt_files').values(some).execute()
}

type PromptFileRow = Selectable<PromptFilesTable>
type FileVerbs = Pick<PromptStore, 'findFile' | 'findFileByName' | 'newestOnWorker' | 'newestFiles'>

export function createSqlPromptFiles({ runner, dialect }: SqlContext): FileVerbs {
  const named = (trx: Transaction<Schema>, type: OutputFile['type'], filename: string) =>
    trx
      .selectFrom('prompt_files')
      .selectAll()
      .where('filename_key', '=', dialect.keyOf(filename))
      .where('type', '=', type)

  return {
    findFile: ({ token, type, subfolder, filename }) =>
      runner.run(async (trx) =>
        newest(named(trx, type, filename).where('token', '=', token).where('subfolder', '=', subfolder)),
      ),

    newestOnWorker: ({ workerId, type, subfolder, filename }) =>
      runner.run(async (trx) =>
        newest(named(trx, type, filename).where('worker_id', '=', workerId).where('subfolder', '=', subfolder)),
      ),

    findFileByName: ({ owner, promptId, type, subfolder, filename }) =>
      runner.run(async (trx) =>
        newest(
          named(trx, type, filename)
            .$if(owner !== undefined, (query) => query.where('owner', '=', owner ?? ''))
            .$if(promptId !== undefined, (query) => query.where('prompt_id', '=', promptId ?? ''))
            .$if(subfolder !== undefined, (query) => query.where('subfolder', '=', subfolder ?? '')),
        ),
      ),

    newestFiles: ({ owner, type, limit }) =>
      runner.run(async (trx) => {
        const files = trx.selectFrom('prompt_files').selectAll().where('owner', '=', owner).where('type', '=', type)
        return (await files.orderBy('sequence', 'desc').limit(limit).execute()).map(toIndexedFile)
      }),
  }
}

async function newest(
  files: SelectQueryBuilder<Schema, 'prompt_files', PromptFileRow>,
): Promise<IndexedFile | undefined> {
  const row = await files.orderBy('sequence', 'desc').limit(1).executeTakeFirst()
  return row === undefined ? undefined : toIndexedFile(row)
}

function toIndexedFile(row: PromptFileRow): IndexedFile {
  const { sequence, owner, token, type, subfolder, filename } = row
  return { sequence, owner, token, type, subfolder, filename, promptId: row.prompt_id, workerId: row.worker_id }
}
