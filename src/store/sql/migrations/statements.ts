import {
  type CompiledQuery,
  DummyDriver,
  Kysely,
  MysqlAdapter,
  MysqlIntrospector,
  MysqlQueryCompiler,
  type Transaction,
} from 'kysely'
import type { Schema } from '../schema.ts'

/** The statements that `work` would send to MySQL, in their order; none is sent, and what it reads is empty. */
export async function statementsOf(work: (trx: Transaction<Schema>) => Promise<unknown>): Promise<CompiledQuery[]> {
  const statements: CompiledQuery[] = []
  const recorder = new Kysely<Schema>({
    dialect: {
      createAdapter: () => new MysqlAdapter(),
      createDriver: () => new DummyDriver(),
      createIntrospector: (database) => new MysqlIntrospector(database),
      createQueryCompiler: () => new MysqlQueryCompiler(),
    },
    log: (event) => {
      if (event.level === 'query') statements.push(event.query)
    },
  })
  await recorder.transaction().execute(work)
  return statements
}
