import type { CompiledQuery } from 'kysely'
import { mysqlColumnTypes } from '../src/store/sql/column-types.ts'
import { createVersionsTable, migrations } from '../src/store/sql/migrations/migrate.ts'
import { statementsOf } from '../src/store/sql/migrations/statements.ts'

/** `docs/mysql_schema.sql`: what a start in an empty database would send. Ends with a newline. */
export async function renderMysqlSchema(): Promise<string> {
  const parts = [
    '-- The tables of ComfyFleet in MySQL 8.0+ or MariaDB 10.6+. Generated from src/store/sql/migrations by',
    '-- `npm run generate`. A gateway whose user may create tables makes them itself; for one that may not, run this',
    '-- once in an empty database. The gateway then needs the rights SELECT, INSERT, UPDATE and DELETE.',
    ...(await statementsOf((trx) => createVersionsTable(trx, mysqlColumnTypes))).map(textOf),
  ]
  for (const [at, step] of migrations.entries()) {
    parts.push(`\n-- ${at + 1}: ${step.name}`)
    parts.push(...(await statementsOf((trx) => step.up(trx, mysqlColumnTypes))).map(textOf))
    parts.push(
      `insert into \`schema_versions\` (\`version\`, \`name\`, \`applied_at\`) values (${at + 1}, ${literal(step.name)}, unix_timestamp() * 1000);`,
    )
  }
  return `${parts.join('\n')}\n`
}

function textOf({ sql, parameters }: CompiledQuery): string {
  let next = 0
  const whole = sql.replaceAll('?', () => literal(parameters[next++]))
  return `${whole.startsWith('create table') ? inLines(whole) : whole};`
}

/** One line a column: cuts at the commas outside of inner parentheses. */
function inLines(createTable: string): string {
  const open = createTable.indexOf('(')
  const close = createTable.lastIndexOf(')')
  const columns = createTable.slice(open + 1, close).split(/, (?![^(]*\))/)
  return `${createTable.slice(0, open)}(\n  ${columns.join(',\n  ')}\n${createTable.slice(close)}`
}

function literal(value: unknown): string {
  return typeof value === 'number' ? String(value) : `'${String(value).replaceAll("'", "''")}'`
}
