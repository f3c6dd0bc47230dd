import { settingsSections, type VariableSchema } from './schema.ts'
import { expected } from './values.ts'
import { WorkerEntrySchema } from './worker-seed.ts'

/** `env.example`: every variable commented out, at its default or an example. Ends with a newline. */
export function renderEnvExample(): string {
  const lines = [
    '# Settings of ComfyFleet. Copy this file to .env and uncomment what you change; real environment',
    '# variables win over .env. Generated from src/config/schema.ts by `npm run generate`.',
  ]
  for (const { title, variables } of settingsSections) {
    lines.push('', `# --- ${title} ---`)
    for (const [name, schema] of Object.entries(variables)) {
      lines.push('', ...wrap(plain(`${schema.description}${accepts(schema)}`)))
      lines.push(`#${name}=${schema.examples?.[0] ?? defaultText(schema)}`)
    }
  }
  return `${lines.join('\n')}\n`
}

/** `docs/settings.md`: the same variables as tables, and the fields of a workers file. Ends with a newline. */
export function renderSettingsPage(): string {
  const lines = [
    '<!-- Generated from src/config/schema.ts by `npm run generate`; edit there. -->',
    '',
    '# Settings',
    '',
    'Settings are environment variables. The gateway also reads a file `.env` in the folder it is started from; real',
    'environment variables win over that file. An empty value counts as not set, and variables it does not know are',
    'ignored. When something is wrong, the gateway lists every mistake and exits with code 1.',
    '`env.example` holds the same list, ready to copy.',
  ]
  for (const { title, variables } of settingsSections) {
    lines.push('', `## ${title}`, '', '| variable | default | accepts | what it does |', '|---|---|---|---|')
    for (const [name, schema] of Object.entries(variables)) {
      const text = defaultText(schema)
      lines.push(row([`\`${name}\``, text === '' ? '' : `\`${text}\``, expected(schema), example(schema)]))
    }
  }
  return `${[...lines, ...workersFilePart()].join('\n')}\n`
}

function workersFilePart(): string[] {
  const lines = [
    '',
    '## The workers file',
    '',
    '`WORKERS_FILE` names a YAML or JSON file with a list of workers. An entry is a URL or an object:',
    '',
    '```yaml',
    '- http://gpu1:8188',
    '- url: https://gpu2.example.org/comfy',
    '  name: big one',
    '  weight: 2',
    '  tags: [flux, video]',
    '  headers: { X-Api-Key: "12345" }',
    '  ca: certs/home-ca.pem',
    '  auth: { username: fleet, password: "secret" }',
    '```',
    '',
    '| field | default | what it is |',
    '|---|---|---|',
  ]
  for (const [name, schema] of Object.entries(WorkerEntrySchema.properties)) {
    const { description = '', default: value } = schema as { description?: string; default?: number }
    lines.push(row([`\`${name}\``, value === undefined ? '' : `\`${value}\``, description]))
  }
  lines.push(
    '',
    'Workers from `WORKERS` and the file are entered once, by URL. What is changed or removed later over the API or on',
    'the page stays so, whatever these settings say.',
  )
  return lines
}

const row = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`

const example = ({ description, examples }: VariableSchema): string =>
  examples?.[0] === undefined ? description : `${description} Example: \`${examples[0]}\``

/** Nothing for plain text, where it would only repeat the obvious. */
const accepts = (schema: VariableSchema): string => {
  const words = expected(schema)
  return words === 'text' ? '' : ` Accepts ${words}.`
}

function defaultText({ default: value }: VariableSchema): string {
  if (value === undefined) return ''
  return typeof value === 'object' ? value.join(', ') : String(value)
}

const plain = (markdown: string): string => markdown.replaceAll('`', '')

/** Comment lines of at most 110 characters. */
function wrap(text: string): string[] {
  const lines: string[] = []
  let line = '#'
  for (const word of text.split(' ')) {
    if (line.length + word.length > 109) {
      lines.push(line)
      line = '#'
    }
    line += ` ${word}`
  }
  return [...lines, line]
}
