import { renderEnvExample, renderSettingsPage } from '../src/config/render.ts'
import { renderMysqlSchema } from './mysql-schema.ts'
import { renderOpenApi } from './openapi.ts'

/** Files in the repository that code can make again. Paths start at the root. */
export const generatedFiles: readonly { path: string; render: () => string | Promise<string> }[] = [
  { path: 'env.example', render: renderEnvExample },
  { path: 'docs/settings.md', render: renderSettingsPage },
  { path: 'docs/openapi.json', render: renderOpenApi },
  { path: 'docs/mysql_schema.sql', render: renderMysqlSchema },
]
