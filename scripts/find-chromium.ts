// Fetches Chromium for the tests in a browser, where that needs no question: as root on a machine with apt. Without it
// those tests are skipped and named, or fail where CI=true, so nothing here fails.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chromiumPlaces } from './chromium-places.ts'

const isThere = chromiumPlaces(process.env).some((path) => existsSync(path))
const mayInstall = process.platform === 'linux' && process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')
if (!isThere && mayInstall) {
  console.log('Installing Chromium for the tests in a browser')
  const apt = (...args: string[]): boolean =>
    spawnSync('apt-get', ['-qq', ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      timeout: 600_000,
    }).status === 0
  const isInstalled = apt('update') && apt('install', '-y', '--no-install-recommends', 'chromium')
  if (!isInstalled) console.log('Chromium could not be installed; tests that need it are skipped')
}
