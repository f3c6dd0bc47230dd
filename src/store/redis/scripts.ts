import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'

/** One Lua script, whole: the parts that it includes come first. */
export interface Script {
  readonly name: string
  readonly source: string
  /** What `EVALSHA` calls it. */
  readonly sha: string
}

const folder = new URL('./lua/', import.meta.url)

/** Reads the scripts of `lua/`, by their names without the ending. A line `-- include: a b` puts parts in front. */
export function loadScripts(): ReadonlyMap<string, Script> {
  const files = readdirSync(folder).filter((file) => file.endsWith('.lua'))
  return new Map(files.map((file) => file.slice(0, -'.lua'.length)).map((name) => [name, loadScript(name)]))
}

function loadScript(name: string): Script {
  const own = readFileSync(new URL(`${name}.lua`, folder), 'utf8')
  const parts = /^-- include: (.*)$/m.exec(own)?.[1]?.split(' ') ?? []
  const texts = parts.map((part) => readFileSync(new URL(`part/${part}.lua`, folder), 'utf8'))
  const source = [...texts, own].join('\n')
  return { name, source, sha: createHash('sha1').update(source).digest('hex') }
}
