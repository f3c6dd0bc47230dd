/** An expected failure with an HTTP status. Routes throw it; one handler in `app.ts` writes it. */
export class HttpError extends Error {
  readonly status: number
  /** Machine-readable, snake_case; goes into `error.type`. */
  readonly type: string
  readonly details: string
  readonly extraInfo: Readonly<Record<string, unknown>>
  /** Seconds for `Retry-After`, when trying again later can help. */
  readonly retryAfterS: number | undefined

  constructor(
    status: number,
    type: string,
    message: string,
    options: {
      details?: string
      extraInfo?: Readonly<Record<string, unknown>>
      retryAfterS?: number
      cause?: unknown
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = new.target.name
    this.status = status
    this.type = type
    this.details = options.details ?? ''
    this.extraInfo = options.extraInfo ?? {}
    this.retryAfterS = options.retryAfterS
  }
}

/** The queue has reached `MAX_QUEUE`. */
export class QueueFullError extends HttpError {
  constructor(limit: number, retryAfterS: number) {
    super(503, 'queue_full', `The queue holds ${limit} prompts; try again in ${retryAfterS} s`, { retryAfterS })
  }
}

/** The gateway is stopping and takes nothing new. */
export class StoppingError extends HttpError {
  constructor(retryAfterS: number) {
    super(503, 'stopping', 'The gateway is stopping', { retryAfterS })
  }
}

/** The store did not answer or refused the write: nothing was accepted. */
export class StoreUnavailableError extends HttpError {
  constructor(cause: unknown) {
    super(503, 'store_unavailable', 'The store cannot be written just now', { retryAfterS: 2, cause })
  }
}

/** A prompt id is known already, with another body or another owner. */
export class PromptIdInUseError extends HttpError {
  constructor() {
    super(400, 'prompt_id_in_use', 'This prompt_id is already in use by another prompt')
  }
}

/** An id or a name is longer than the store can keep. */
export class NameTooLongError extends HttpError {
  constructor(cause: unknown) {
    super(400, 'name_too_long', 'An id or a name in this request is too long', { cause })
  }
}

/** No worker could be reached for a call that needs one. */
export class WorkerUnreachableError extends HttpError {
  constructor(message: string, cause?: unknown) {
    super(502, 'worker_unreachable', message, { cause })
  }
}

/** No worker is up, for a call that needs one now. */
export class NoWorkerError extends HttpError {
  constructor(message = 'No worker is available') {
    super(503, 'no_worker', message, { retryAfterS: 5 })
  }
}

/** A worker did not answer in time. */
export class WorkerTimeoutError extends HttpError {
  constructor(message: string, cause?: unknown) {
    super(504, 'worker_timeout', message, { cause })
  }
}

/** The body is larger than `MAX_BODY_BYTES`. */
export class BodyTooLargeError extends HttpError {
  constructor(limitBytes: number) {
    super(413, 'body_too_large', `Maximum request body size ${limitBytes} exceeded.`)
  }
}

/** The disk has no room for what is to be kept; nothing of it was. */
export class DiskFullError extends HttpError {
  constructor(cause?: unknown) {
    super(507, 'disk_full', 'The disk of the gateway is full', { cause })
  }
}

/** The body every error of ours has: the shape of ComfyUI's `POST /prompt` errors, so clients can read it. */
export const errorBody = (error: HttpError) => ({
  error: { type: error.type, message: error.message, details: error.details, extra_info: error.extraInfo },
  node_errors: {},
})
