import { expect, it } from 'vitest'
import { chosenStore, storeProblems } from '../../src/config/store-choice.ts'

it.each([
  [{}, 'sqlite'],
  [{ MYSQL_DATABASE: 'fleet' }, 'mysql'],
  [{ MYSQL_DATABASE: 'fleet', STORE: 'sqlite' }, 'sqlite'],
  [{ STORE: 'mysql' }, 'mysql'],
  [{ REDIS_URL: 'redis://127.0.0.1' }, 'redis'],
  [{ REDIS_URL: 'redis://127.0.0.1', MYSQL_DATABASE: 'fleet' }, 'mysql'],
  [{ REDIS_URL: 'redis://127.0.0.1', MYSQL_DATABASE: 'fleet', STORE: 'redis' }, 'redis'],
] as const)('takes %j as %s', (settings, store) => {
  expect(chosenStore(settings)).toBe(store)
})

it.each([
  [{ MYSQL_DATABASE: 'fleet', MYSQL_USER: 'me' }, []],
  [{ STORE: 'mysql', MYSQL_DATABASE: 'fleet', MYSQL_USER: 'me', MYSQL_PASSWORD: 'secret' }, []],
  [{ MYSQL_DATABASE: 'fleet' }, ['MYSQL_USER: is missing, although MYSQL_DATABASE is set']],
  [
    { STORE: 'mysql' },
    ['MYSQL_DATABASE: is missing, although STORE=mysql', 'MYSQL_USER: is missing, although STORE=mysql'],
  ],
  [{ MYSQL_PASSWORD: 'secret' }, ['MYSQL_DATABASE: is missing, although MYSQL_PASSWORD is set']],
  [{ MYSQL_USER: 'me', STORE: 'sqlite' }, []],
] as const)('says of %j what is missing', (settings, problems) => {
  expect(storeProblems(settings)).toEqual(problems)
})
