import { afterAll, beforeAll } from 'vitest'
import { createRedisStore } from '../../src/store/redis/redis.ts'
import { storeContract } from '../contracts/store.ts'
import { storeModel } from '../contracts/store-model.ts'
import { createClock } from '../support/clock.ts'
import { describeWithRedis } from '../support/describe-with-redis.ts'
import { type RedisServer, startRedis } from '../support/redis-server.ts'

describeWithRedis('Redis', () => {
  let server: RedisServer
  let stores = 0
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server?.stop())

  storeContract('redis', async () => {
    const clock = createClock()
    const store = await createRedisStore({
      url: server.url,
      prefix: `test-${stores++}`,
      timeoutMs: 10_000,
      now: clock.now,
    })
    return { store, advance: clock.advance }
  })

  storeModel('Redis', (now) =>
    createRedisStore({ url: server.url, prefix: `model-${stores++}`, timeoutMs: 10_000, now }),
  )
})
