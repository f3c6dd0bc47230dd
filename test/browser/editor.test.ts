import type { Page } from 'playwright-core'
import { afterEach, describe, expect } from 'vitest'
import { buildTestGateway, type TestGateway, until } from '../support/app.ts'
import { browserTest } from '../support/browser.ts'
import { freePort } from '../support/free-port.ts'

let fleet: TestGateway | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

async function start(): Promise<TestGateway & { editor: string }> {
  const port = await freePort()
  const workers = ['gpu 0', 'gpu 1'].map((name) => ({ name, extensions: ['demo/panel'] }))
  fleet = await buildTestGateway({ workers, env: { EDITOR_PORT: String(port) } })
  return { ...fleet, editor: `http://127.0.0.1:${port}` }
}

/** Opens the editor and collects what went wrong in it. */
async function visit(page: Page, url: string): Promise<string[]> {
  const problems: string[] = []
  page.on('pageerror', (error) => problems.push(error.message))
  page.on('response', (answer) => {
    if (answer.status() >= 400 && !answer.url().endsWith('/favicon.ico')) {
      problems.push(`${answer.status()} ${answer.url()}`)
    }
  })
  await page.goto(url)
  await page.locator('#socket', { hasText: 'open' }).waitFor()
  await page.locator('[data-extension][data-worker]').waitFor()
  return problems
}

const statesIn = (page: Page) =>
  page.locator('#prompts li').evaluateAll((items) => items.map((item) => item.getAttribute('data-state')))

describe("the editor in a browser, at the gateway's second port", () => {
  browserTest('queues twice, shows the progress and the pictures of both workers, and the history', async (open) => {
    const { editor, workers } = await start()
    const page = await open()
    const problems = await visit(page, editor)
    await page.click('#queue')
    await page.click('#queue')
    await page.locator('#prompts li[data-ended="yes"]').nth(1).waitFor()
    expect(await statesIn(page)).toEqual(['done', 'done'])
    expect(workers.map(({ ledger }) => ledger.runs.length)).toEqual([1, 1])
    const ticks = await page
      .locator('#prompts li')
      .evaluateAll((items) => items.map((item) => item.getAttribute('data-ticks')))
    for (const count of ticks) expect(Number(count)).toBeGreaterThan(0)
    const pictures = page.locator('#prompts img')
    await until(async () => (await pictures.count()) === 2)
    // Text, since it runs in the page: nothing here knows of documents.
    const widths = await page.evaluate(
      'Promise.all([...document.querySelectorAll("#prompts img")].map((each) => each.decode().then(() => each.naturalWidth)))',
    )
    expect(widths).toEqual([16, 16])
    const folders = await pictures.evaluateAll((all) => all.map((each) => each.getAttribute('data-subfolder')))
    expect(new Set(folders).size).toBe(2)
    expect(await page.locator('#remaining').textContent()).toBe('0')
    await page.click('#reload-history')
    await page.locator('#history li', { hasText: 'success' }).nth(1).waitFor()
    expect(problems).toEqual([])
  })

  browserTest('cancels what runs and what waits', async (open) => {
    const { editor, workers } = await start()
    const page = await open()
    const problems = await visit(page, editor)
    // One of them runs on each worker, one is sent ahead to each, and one waits in the gateway.
    await page.evaluate('Promise.all(Array.from({ length: 5 }, () => app.queue(30)))')
    await until(() => workers.every(({ ledger }) => ledger.runs.length === 1))
    await page.click('#cancel')
    await until(async () => (await page.locator('#remaining').textContent()) === '0')
    const states = await statesIn(page)
    expect(states.filter((state) => state === 'deleted')).toHaveLength(3)
    expect(states.filter((state) => state === 'execution_interrupted')).toHaveLength(2)
    await until(() => workers.every(({ queueRemaining }) => queueRemaining === 0))
    expect(problems).toEqual([])
  })

  browserTest('goes on where it was after a reload in the middle of a run', async (open) => {
    const { editor } = await start()
    const page = await open()
    await visit(page, editor)
    await page.evaluate('app.queue(2)')
    await page.locator('#prompts li[data-state="running"]').waitFor()
    await page.reload()
    await page.locator('#prompts li[data-ended="yes"]').waitFor()
    await page.locator('#prompts img').waitFor()
  })

  browserTest('shows two visitors only their own prompts on the socket', async (open) => {
    const { editor } = await start()
    const [one, other] = [await open(), await open()]
    await visit(one, editor)
    await visit(other, editor)
    await one.click('#queue')
    await one.locator('#prompts li[data-ended="yes"]').waitFor()
    expect(await statesIn(other)).toEqual([])
  })

  browserTest('stays with the worker that ?worker= names', async (open) => {
    const { editor, gateway, workers } = await start()
    const chosen = gateway.workers()[1]
    const page = await open()
    await visit(page, `${editor}/?worker=${chosen?.id}`)
    for (let n = 0; n < 3; n++) await page.click('#queue')
    await page.locator('#prompts li[data-ended="yes"]').nth(2).waitFor()
    for (const worker of workers) expect(worker.ledger.runs).toHaveLength(worker.url === chosen?.config.url ? 3 : 0)
    await page.goto(editor)
    const at = workers.find(({ url }) => url === chosen?.config.url)?.name
    await page.locator(`[data-extension][data-worker="${at}"]`).waitFor()
  })
})
