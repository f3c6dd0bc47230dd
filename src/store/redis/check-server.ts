import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { StoreOpenError } from '../open-error.ts'

/** The oldest version whose commands the scripts use. */
const oldest = { major: 6, minor: 2 }

/**
 * Throws StoreOpenError when prompts could be lost by design: a server that is too old, or that evicts keys when its
 * memory is full. Warns of what makes it less durable than a 200 promises, and of what it does not tell.
 */
export async function checkServer(redis: Redis, log: Pick<Logger, 'warn'>): Promise<void> {
  const info = await readInfo(redis)
  const version = info.get('redis_version')
  if (version === undefined) log.warn('Redis does not tell its version (INFO); ComfyFleet needs 6.2 or newer')
  else if (isTooOld(version)) throw new StoreOpenError(`Redis ${version} is too old; ComfyFleet needs 6.2 or newer`)

  const policy = (await readConfig(redis, 'maxmemory-policy')) ?? info.get('maxmemory_policy')
  if (policy === undefined) {
    log.warn('Redis does not tell its eviction policy (CONFIG GET is not allowed); it must be noeviction')
  } else if (policy !== 'noeviction') {
    throw new StoreOpenError(
      `Redis may throw prompts away when its memory is full (maxmemory-policy ${policy}); set maxmemory-policy noeviction`,
    )
  }

  const isAppending = (await readConfig(redis, 'appendonly')) ?? (info.get('aof_enabled') === '1' ? 'yes' : undefined)
  const sync = await readConfig(redis, 'appendfsync')
  if (isAppending === 'no' || info.get('aof_enabled') === '0') {
    log.warn(
      'Redis keeps no append-only file: prompts since its last snapshot are lost when it stops; set appendonly yes',
    )
  } else if (isAppending === undefined) {
    log.warn('Redis does not tell whether it keeps an append-only file (CONFIG GET is not allowed); it should')
  } else if (sync !== undefined && sync !== 'always') {
    log.warn(
      { appendfsync: sync },
      'Redis answers before its append-only file is on disk: a crash of its machine may lose the last moments; ' +
        'appendfsync always prevents it',
    )
  }
}

/** The fields of `INFO`; none when it is not allowed. */
async function readInfo(redis: Redis): Promise<ReadonlyMap<string, string>> {
  const text = await redis.info().catch(unlessRefused)
  const lines = (text ?? '').split('\r\n').map((line) => line.split(':'))
  return new Map(lines.flatMap(([name = '', value]) => (value === undefined ? [] : [[name, value] as const])))
}

/** One setting; undefined when `CONFIG GET` is not allowed, as in many hosted services. */
async function readConfig(redis: Redis, name: string): Promise<string | undefined> {
  const reply = await redis.config('GET', name).catch(unlessRefused)
  const value = Array.isArray(reply) ? reply[1] : undefined
  return typeof value === 'string' ? value : undefined
}

/** An answer that says no is no trouble; no answer is. */
function unlessRefused(error: Error): undefined {
  if (error.name !== 'ReplyError') throw error
  return undefined
}

function isTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major < oldest.major || (major === oldest.major && minor < oldest.minor)
}
