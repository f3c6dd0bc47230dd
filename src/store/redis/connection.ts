import { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { StoreUnavailableError } from '../../errors.ts'
import { StoreOpenError } from '../open-error.ts'
import { decodeText, encodeText } from '../sql/odd-text.ts'
import { checkServer } from './check-server.ts'
import { loadScripts, type Script } from './scripts.ts'

export interface RedisConnectionOptions {
  /** `redis://user:password@host:port/db`, or `rediss://` for TLS. */
  url: string
  /** All keys are `{prefix}:…`: the braces keep them in one hash slot. */
  prefix: string
  /** Milliseconds that one call, and connecting, may take. */
  timeoutMs: number
  log: Pick<Logger, 'info' | 'warn'>
  /** For tests: milliseconds since the epoch, instead of Redis's clock. */
  now: (() => number) | undefined
}

/** What a script's header says that it replies. */
export type Reply = null | number | string | Reply[]

/** Milliseconds between two tries to connect, at most. */
const maxPauseMs = 500

/**
 * One connection, over which the scripts run in the order of their calls. Every failure of a call, a call over its time
 * and a call while Redis is away reject with StoreUnavailableError; nothing is queued or sent twice. It reconnects by
 * itself.
 */
export class RedisConnection {
  readonly #redis: Redis
  readonly #options: RedisConnectionOptions
  readonly #scripts = loadScripts()
  readonly #pending = new Set<Promise<unknown>>()
  #trouble: Error | undefined
  #closed: Promise<void> | undefined

  /**
   * Connects and checks the server. Throws StoreUnavailableError when it cannot be reached now, StoreOpenError when it
   * refuses us or cannot be used as it is configured.
   */
  static async open(options: RedisConnectionOptions): Promise<RedisConnection> {
    const connection = new RedisConnection(options)
    try {
      await connection.#connect()
    } catch (error) {
      await connection.close()
      throw error
    }
    return connection
  }

  private constructor(options: RedisConnectionOptions) {
    this.#options = options
    this.#redis = new Redis(options.url, {
      lazyConnect: true,
      connectionName: 'comfyfleet',
      connectTimeout: options.timeoutMs,
      commandTimeout: options.timeoutMs,
      // A connection that swallows what is sent is given up, or it would time out call after call.
      socketTimeout: options.timeoutMs * 2,
      retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 10), maxPauseMs),
      // A verb that may have run must not run again, and one that cannot run now must not run later.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      // After a failover the name may lead to the new primary.
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    })
    this.#redis.on('error', (error: Error) => this.#isAway(error))
    this.#redis.on('close', () => {
      if (this.#closed === undefined) this.#isAway(this.#trouble ?? new Error('Redis closed the connection'))
    })
  }

  /**
   * Runs a script. The reply has the shape that the script's header states, which the type argument repeats. Texts may
   * be any JavaScript strings.
   */
  call<T extends Reply>(script: string, ...args: readonly (string | number)[]): Promise<T> {
    // The one place where a reply gets its type: scripts are ours, and their headers are checked by the contract suite.
    return this.#run(this.#script(script), args) as Promise<T>
  }

  /** Runs a verb, however many calls it makes; `close` waits for it. Refused once the connection closes. */
  track<T>(verb: () => Promise<T>): Promise<T> {
    if (this.#closed !== undefined) return Promise.reject(new StoreUnavailableError(new Error('The store is closed')))
    const running = verb()
    const settled = running.then(
      () => undefined,
      () => undefined,
    )
    this.#pending.add(settled)
    void settled.then(() => this.#pending.delete(settled))
    return running
  }

  /** Waits for the verbs under way, then ends the connection. */
  close(): Promise<void> {
    this.#closed ??= Promise.all(this.#pending).then(() => this.#redis.disconnect())
    return this.#closed
  }

  async #connect(): Promise<void> {
    const { timeoutMs } = this.#options
    const deadline = rejectAfter(timeoutMs * 2)
    try {
      await Promise.race([this.#redis.connect(), deadline.promise])
    } catch (error) {
      throw this.#refusal() ?? new StoreUnavailableError(this.#trouble ?? withoutArguments(error))
    } finally {
      deadline.clear()
    }
    // A database that does not exist is only reported; ioredis would go on with database 0.
    const refusal = this.#refusal()
    if (refusal !== undefined) throw refusal
    await checkServer(this.#redis, this.#options.log)
    await this.#sendScripts()
    this.#redis.on('ready', () => void this.#welcomeBack())
  }

  /** An answer of the server, rather than trouble on the way to it: no later try would fare better. */
  #refusal(): StoreOpenError | undefined {
    if (this.#trouble?.name !== 'ReplyError' || /^(LOADING|BUSY|MASTERDOWN)/.test(this.#trouble.message))
      return undefined
    return new StoreOpenError(`Redis refuses the connection: ${this.#trouble.message}`)
  }

  /** Says so once, however many tries to connect fail. */
  #isAway(error: Error): void {
    if (this.#trouble === undefined) this.#options.log.warn({ reason: error.message }, 'no connection to Redis')
    this.#trouble = error
  }

  async #welcomeBack(): Promise<void> {
    this.#trouble = undefined
    this.#options.log.info('connected to Redis again')
    await this.#sendScripts()
    try {
      // It may be another server than before.
      await checkServer(this.#redis, this.#options.log)
    } catch (error) {
      // Else the connection is gone again, which says so itself.
      if (error instanceof StoreOpenError) this.#options.log.warn({ reason: error.message }, 'Redis must not be used')
    }
  }

  /** Sent ahead of all calls, so that none of these has to be sent a second time, behind later ones. */
  async #sendScripts(): Promise<void> {
    const sent = [...this.#scripts.values()].map(({ source }) => this.#redis.script('LOAD', source))
    // What is missing goes along with its first call.
    await Promise.allSettled(sent)
  }

  async #run({ sha, source }: Script, args: readonly (string | number)[]): Promise<Reply> {
    if (this.#redis.status !== 'ready') {
      throw new StoreUnavailableError(new Error(`No connection to Redis: ${this.#trouble?.message ?? 'closed'}`))
    }
    const { prefix, now } = this.#options
    const texts = args.map((arg) => (typeof arg === 'string' ? encodeText(arg) : String(arg)))
    const words = [`{${prefix}}:`, now === undefined ? '' : String(now()), ...texts]
    try {
      // A reply of Redis, in RESP2's shapes.
      return decode(
        (await this.#redis.evalsha(sha, 1, ...words).catch((error: Error) => {
          if (!error.message.startsWith('NOSCRIPT')) throw error
          return this.#redis.eval(source, 1, ...words)
        })) as Reply,
      )
    } catch (error) {
      throw new StoreUnavailableError(withoutArguments(error))
    }
  }

  #script(name: string): Script {
    const script = this.#scripts.get(name)
    if (script === undefined) throw new Error(`There is no script ${name}`)
    return script
  }
}

function decode(reply: Reply): Reply {
  if (typeof reply === 'string') return decodeText(reply)
  return Array.isArray(reply) ? reply.map(decode) : reply
}

/** The client's errors carry the whole command, with prompts and sealed keys; a log must not. */
function withoutArguments(error: unknown): Error {
  return new Error(error instanceof Error ? error.message : String(error))
}

function rejectAfter(ms: number): { promise: Promise<never>; clear(): void } {
  let timer: NodeJS.Timeout | undefined
  const promise = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Redis was not ready within ${ms} ms`)), ms)
  })
  return { promise, clear: () => clearTimeout(timer) }
}
