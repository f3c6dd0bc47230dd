import { existsSync } from 'node:fs'
import { type Browser, chromium, type Page } from 'playwright-core'
import { it } from 'vitest'
import { chromiumPlaces } from '../../scripts/chromium-places.ts'

const executablePath = chromiumPlaces(process.env).find((path) => existsSync(path))

/**
 * A test in a real browser. Without one it is skipped and named on the console; where CI=true it fails, since there a
 * browser is part of the machine.
 */
export function browserTest(name: string, test: (open: () => Promise<Page>) => Promise<void>): void {
  if (executablePath === undefined) {
    if (process.env.CI === 'true') {
      it(name, () => {
        throw new Error('there is no Chromium; install it or set CHROMIUM_PATH')
      })
    } else {
      console.warn(`skipped, since there is no Chromium (CHROMIUM_PATH): ${name}`)
      it.skip(name)
    }
    return
  }
  it(name, { timeout: 60_000 }, async () => {
    const browser = await start(executablePath)
    try {
      // Each page is a person of its own: cookies and storage are not shared.
      await test(async () => (await browser.newContext()).newPage())
    } finally {
      await browser.close()
    }
  })
}

function start(path: string): Promise<Browser> {
  // The sandbox does not work for root, as whom containers run tests; pages here are our own.
  return chromium.launch({ executablePath: path, chromiumSandbox: false, args: ['--disable-gpu'] })
}
