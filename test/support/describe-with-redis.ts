import { describe, it } from 'vitest'
import { hasRedisServer } from './redis-server.ts'

/**
 * `describe` for what needs a real Redis. Without the binary the cases are skipped, and the name says why; in CI that is
 * a failure.
 */
export function describeWithRedis(name: string, body: () => void): void {
  const reason = `${name} (redis-server is not installed)`
  if (hasRedisServer) {
    describe(name, body)
  } else if (process.env.CI === 'true') {
    it(reason, () => {
      throw new Error('CI must not skip these: install the package redis-server')
    })
  } else {
    describe.skip(reason, body)
  }
}
