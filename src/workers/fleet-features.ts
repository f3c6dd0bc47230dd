import type { WorkerRegistry } from './registry.ts'

/** What `GET /features` and the answer to a client's feature flags say. */
export type FleetFeatures = Readonly<Record<string, boolean | number>>

export interface FleetFeaturesOptions {
  registry: Pick<WorkerRegistry, 'list'>
  maxUploadBytes: number
}

/** What workers may have and the gateway does not pass on. */
const NOT_SERVED = new Set(['assets'])

/**
 * The features a client may count on whichever worker it gets: the flags that every worker which told its features has
 * on. The size of uploads and the form of previews are the gateway's own.
 */
export function createFleetFeatures({ registry, maxUploadBytes }: FleetFeaturesOptions): () => FleetFeatures {
  const own = { supports_preview_metadata: true, max_upload_size: maxUploadBytes }
  return () => {
    const told = registry.list().filter(({ info }) => info !== undefined)
    const [first, ...rest] = told.map(({ features }) => flagsOf(features))
    const common = [...(first ?? [])].filter((name) => rest.every((flags) => flags.has(name)))
    return { ...own, ...Object.fromEntries(common.map((name) => [name, true])), ...own }
  }
}

/** Names of the flags that are on; a release too old to tell has none. */
function flagsOf(text: string | undefined): Set<string> {
  try {
    const value: unknown = text === undefined ? undefined : JSON.parse(text)
    if (typeof value !== 'object' || value === null) return new Set()
    return new Set(
      Object.entries(value).flatMap(([name, flag]) => (flag === true && !NOT_SERVED.has(name) ? [name] : [])),
    )
  } catch {
    return new Set()
  }
}
