// Fetches what the tests need from Debian's packages, where that needs no question: as root on a machine with apt. What is
// missing then is skipped and named by the tests, or fails where CI=true, so nothing here fails.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { chromiumPlaces } from './chromium-places.ts'

/** Servers stand in folders that are not on every user's path. */
const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/usr/bin']
const anywhere = (name: string): string[] => folders.map((folder) => join(folder, name))

const packages: readonly { name: string; for: string; places: readonly string[] }[] = [
  { name: 'chromium', for: 'tests in a browser', places: chromiumPlaces(process.env) },
  { name: 'mariadb-server', for: 'the MySQL store', places: [...anywhere('mariadbd'), ...anywhere('mysqld')] },
  { name: 'redis-server', for: 'the Redis store', places: anywhere('redis-server') },
]

const missing = packages.filter(({ places }) => !places.some((path) => existsSync(path)))
const mayInstall = process.platform === 'linux' && process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')
if (missing.length > 0 && mayInstall) {
  const names = missing.map(({ name }) => name)
  console.log(`Installing for the tests: ${names.join(', ')}`)
  const apt = (...args: string[]): boolean =>
    spawnSync('apt-get', ['-qq', ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      timeout: 600_000,
    }).status === 0
  apt('update')
  apt('install', '-y', '--no-install-recommends', ...names)
}
for (const { name, places, ...rest } of missing) {
  if (!places.some((path) => existsSync(path))) console.log(`Without ${name}: ${rest.for} is skipped`)
}
