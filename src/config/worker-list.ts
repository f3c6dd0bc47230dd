import { parseWorkerUrl, plainSeed, type WorkerSeed } from './worker-seed.ts'

/** Reads the items of `WORKERS`. Problems name the place in the list, never the text: it may hold a password. */
export function seedsFromUrls(urls: readonly string[], problems: string[]): WorkerSeed[] {
  return urls.flatMap((text, index) => {
    const found = parseWorkerUrl(text)
    if ('problem' in found) {
      problems.push(`WORKERS: entry ${index + 1} ${found.problem}`)
      return []
    }
    return [plainSeed(found)]
  })
}
