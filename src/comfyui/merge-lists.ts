import { type JsonNode, member, parseJson, stringValue } from './raw-json.ts'

/**
 * One JSON list for many workers': all entries in order of first appearance, byte for byte as the first worker has
 * them. Entries are one when they are the same string, or objects of the same `name`, whatever slashes they are written
 * with. Texts that are no lists are left out.
 */
export function mergeJsonLists(texts: readonly string[]): string {
  const distinct = [...new Set(texts)]
  const merged = new Map<string, string>()
  for (const text of distinct) {
    for (const item of itemsOf(text)) {
      const source = text.slice(item.start, item.end)
      const name = stringValue(item) ?? stringValue(member(item, 'name'))
      const key = name === undefined ? `raw ${source}` : `name ${name.replaceAll('\\', '/')}`
      if (!merged.has(key)) merged.set(key, source)
    }
  }
  return `[${[...merged.values()].join(', ')}]`
}

/** The strings of a JSON list; none when the text is no list. */
export const stringsOf = (text: string): string[] =>
  itemsOf(text)
    .map(stringValue)
    .filter((name) => name !== undefined)

function itemsOf(text: string): readonly JsonNode[] {
  try {
    const root = parseJson(text)
    return root.kind === 'array' ? root.items : []
  } catch {
    return []
  }
}
