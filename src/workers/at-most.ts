/**
 * Resolves when the work is done, with its value, or after `ms` with undefined; the work goes on. A failure that comes
 * in time is thrown, a later one is dropped: whoever does the work reports it.
 */
export function atMost<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(undefined), ms)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
