/** The store cannot be opened at all. The message is one sentence for the operator; the cause has the details. */
export class StoreOpenError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'StoreOpenError'
  }
}
