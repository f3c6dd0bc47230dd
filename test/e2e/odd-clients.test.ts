import { afterEach, describe, expect, it } from 'vitest'
import { SocketClient } from '../relay/socket-client.ts'
import { buildTestGateway, type TestGateway } from '../support/app.ts'
import { finished, pictureGraph, queueOf, submit } from '../support/comfy-client.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

describe('what clients may send', () => {
  it.each(["$'", '$`', '$&', '$$', '$1 "quoted" \\ /'])('shows the prompt id %s as it came everywhere', async (id) => {
    fleet = await buildTestGateway({ workers: 1 })
    const { url } = fleet
    const client = await SocketClient.connect(`${url.replace('http', 'ws')}/ws?clientId=c`)
    const answer = await submit(url, { prompt: pictureGraph(), prompt_id: id, client_id: 'c' })
    expect([answer.status, answer.promptId]).toEqual([200, id])
    await client.untilTold(`executing ${id}:null`)
    expect(client.plot).toContain(`executed ${id}:2`)
    const entry = await finished(url, id)
    expect(entry.prompt[1]).toBe(id)
    expect(entry.status.messages.map(([, data]) => data.prompt_id)).toEqual(entry.status.messages.map(() => id))
    await client.leave()
  })

  it.each([1e21, -1e21, 1e300, 5e-324, -0.5, 1e16])('answers and lists JSON for the number %d', async (number) => {
    fleet = await buildTestGateway({ workers: 0, untilHealthy: false })
    const { url } = fleet
    const answer = await submit(url, { prompt: pictureGraph(), number })
    expect(answer.status).toBe(200)
    expect(JSON.parse(answer.text).number).toBe(number)
    expect((await queueOf(url)).queue_pending.map(([shown]) => shown)).toEqual([number])
  })
})
