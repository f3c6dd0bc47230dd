import { redisProblems } from './redis-settings.ts'
import type { Settings } from './schema.ts'

type StoreName = NonNullable<Settings['STORE']>

/** The back end that the settings name: `STORE` outright, else the one whose place is given, MySQL first, else SQLite. */
export function chosenStore({ STORE, MYSQL_DATABASE, REDIS_URL }: Partial<Settings>): StoreName {
  if (STORE !== undefined) return STORE
  if (MYSQL_DATABASE !== undefined) return 'mysql'
  return REDIS_URL === undefined ? 'sqlite' : 'redis'
}

/** What is missing for the chosen back end, and what was set for one that is then not chosen. */
export function storeProblems(settings: Partial<Settings>): string[] {
  return [...mysqlProblems(settings), ...redisProblems(settings)]
}

function mysqlProblems(settings: Partial<Settings>): string[] {
  const { STORE, MYSQL_DATABASE, MYSQL_USER } = settings
  if (chosenStore(settings) === 'mysql') {
    const because = STORE === 'mysql' ? 'STORE=mysql' : 'MYSQL_DATABASE is set'
    return [
      ...(MYSQL_DATABASE === undefined ? [`MYSQL_DATABASE: is missing, although ${because}`] : []),
      ...(MYSQL_USER === undefined ? [`MYSQL_USER: is missing, although ${because}`] : []),
    ]
  }
  // Whoever names another store may keep these beside it.
  if (STORE !== undefined) return []
  const set = (['MYSQL_USER', 'MYSQL_PASSWORD'] as const).find((name) => settings[name] !== undefined)
  return set === undefined ? [] : [`MYSQL_DATABASE: is missing, although ${set} is set`]
}
