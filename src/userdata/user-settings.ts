import { dumpsNode, quotePython } from '../comfyui/python-json.ts'
import { type JsonObject, membersOf, parseJson } from '../comfyui/raw-json.ts'
import { HttpError, StoreUnavailableError } from '../errors.ts'
import type { RecordStore } from '../store/store.ts'

/** Settings by id, in order; values are JSON text as Python writes it. */
export type SettingsMap = Map<string, string>

const COLLECTION = 'user-settings'
/** Largest text of all settings of one owner; a front end's have some 10 KB. */
const MAX_TEXT = 8 * 1024 * 1024
/** Each lost race is another's success, so this many are never lost in a row. */
const MAX_RACES = 1_000

/** The settings of ComfyUI's front end, one object for each owner. */
export class UserSettings {
  readonly #records: Pick<RecordStore, 'get' | 'put'>

  constructor({ records }: { records: Pick<RecordStore, 'get' | 'put'> }) {
    this.#records = records
  }

  /** JSON text of all settings; undefined when none were ever written. */
  async text(owner: string): Promise<string | undefined> {
    return textOf(await this.#records.get(COLLECTION, owner))
  }

  /** JSON text of one setting. */
  async value(owner: string, id: string): Promise<string | undefined> {
    return readMap(await this.text(owner)).get(id)
  }

  /**
   * Writes settings beside those that are there; two callers at the same moment lose nothing. With `keep`, what is there
   * already stays as it is. Throws HttpError 413 when they become too many.
   */
  async merge(owner: string, settings: SettingsMap, options: { keep?: boolean } = {}): Promise<void> {
    for (let race = 0; race < MAX_RACES; race++) {
      const record = await this.#records.get(COLLECTION, owner)
      const merged = readMap(textOf(record))
      for (const [id, json] of settings) if (!options.keep || !merged.has(id)) merged.set(id, json)
      const text = `{${[...merged].map(([id, json]) => `${quotePython(id)}: ${json}`).join(', ')}}`
      if (text.length > MAX_TEXT) {
        throw new HttpError(413, 'settings_too_large', `All settings together may have ${MAX_TEXT} characters`)
      }
      const ifVersion = record?.version ?? 0
      if (await this.#records.put(COLLECTION, { id: owner, value: { text } }, { ifVersion })) return
    }
    throw new StoreUnavailableError(new Error('settings are written without end'))
  }
}

/** The members of a JSON object; of repeated ids the last counts. */
export function settingsOf(object: JsonObject): SettingsMap {
  return new Map([...membersOf(object)].map(([id, node]) => [id, dumpsNode(node)]))
}

function textOf(record: { value: unknown } | undefined): string | undefined {
  const value = record?.value
  if (typeof value !== 'object' || value === null || !('text' in value)) return undefined
  return typeof value.text === 'string' ? value.text : undefined
}

function readMap(text: string | undefined): SettingsMap {
  const root = text === undefined ? undefined : parseJson(text)
  return root?.kind === 'object' ? settingsOf(root) : new Map()
}
