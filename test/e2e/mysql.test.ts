import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildTestGateway } from '../support/app.ts'
import { finished, pictureGraph, submit } from '../support/comfy-client.ts'
import { type MariaDb, startMariaDb, whyNoMariaDb } from '../support/mariadb.ts'

const reason = whyNoMariaDb()

describe.skipIf(reason !== undefined)(`a gateway on MySQL${reason === undefined ? '' : ` (${reason})`}`, () => {
  let server: MariaDb
  beforeAll(async () => {
    server = await startMariaDb()
  }, 60_000)
  afterAll(() => server?.stop())

  it('runs prompts, and has their history after a restart', async () => {
    const { host, port, user, database } = await server.freshDatabase()
    const env = { STORE: '', MYSQL_HOST: host, MYSQL_PORT: `${port}`, MYSQL_USER: user, MYSQL_DATABASE: database }
    const first = await buildTestGateway({ workers: 2, env })
    const promptIds: string[] = []
    for (let seed = 0; seed < 10; seed += 1) {
      promptIds.push((await submit(first.url, { prompt: pictureGraph({}) })).promptId)
    }
    for (const promptId of promptIds) await finished(first.url, promptId)
    await first.close()
    const second = await buildTestGateway({ env, untilHealthy: false })
    const history = (await (await fetch(`${second.url}/history`)).json()) as Record<string, unknown>
    expect(Object.keys(history)).toEqual(promptIds)
    await second.close()
  })
})
