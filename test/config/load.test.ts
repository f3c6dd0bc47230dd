import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ConfigError } from '../../src/config/config-error.ts'
import { loadConfig } from '../../src/config/load.ts'
import { variables } from '../../src/config/schema.ts'

let cwd: string
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'config-'))
})
afterEach(() => rmSync(cwd, { recursive: true }))

const load = (env: NodeJS.ProcessEnv = {}) => loadConfig({ env, cwd })

function problemsOf(env: NodeJS.ProcessEnv): readonly string[] {
  try {
    load(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

describe('sources', () => {
  it('has a default for everything that is not optional', () => {
    const config = load()
    expect(config).toMatchObject({ HOST: '127.0.0.1', PORT: 8000, OPEN_API: false, STORE: 'sqlite', MAX_ATTEMPTS: 3 })
    expect(config.DATA_DIR).toBe(join(cwd, 'data'))
    expect(config.workers).toEqual([])
    const optional = [
      'REDIS_URL',
      'MYSQL_DATABASE',
      'MYSQL_PASSWORD',
      'MYSQL_USER',
      'SECRET_KEY',
      'WORKER_AUTH_PASSWORD',
      'WORKER_AUTH_USERNAME',
      'WORKERS',
      'WORKERS_FILE',
    ]
    expect([...variables.keys()].filter((name) => !(name in config)).sort()).toEqual(optional.sort())
  })

  it('lets .env win over the default and the environment over .env', () => {
    writeFileSync(join(cwd, '.env'), 'PORT=9001\nMAX_QUEUE=7\n# a comment\nLOG_LEVEL="debug"\n')
    expect(load({ PORT: '9002' })).toMatchObject({ PORT: 9002, MAX_QUEUE: 7, LOG_LEVEL: 'debug' })
  })

  it('takes an empty value as not set, in the environment and in .env', () => {
    writeFileSync(join(cwd, '.env'), 'PORT=9001\nMAX_QUEUE=\n')
    expect(load({ PORT: '', MAX_QUEUE: '  ' })).toMatchObject({ PORT: 9001, MAX_QUEUE: 10_000 })
  })

  it('reads a .env that starts with a byte order mark', () => {
    writeFileSync(join(cwd, '.env'), '\uFEFFPORT=9001\n')
    expect(load().PORT).toBe(9001)
  })

  it('says when .env cannot be read', () => {
    mkdirSync(join(cwd, '.env'))
    expect(problemsOf({})).toEqual([expect.stringMatching(/^\.env: .* cannot be read \(EISDIR\)$/)])
  })

  it('ignores variables it does not know', () => {
    expect(load({ NO_SUCH_SETTING: 'x', PATH: '/bin' })).not.toHaveProperty('NO_SUCH_SETTING')
  })
})

describe('values', () => {
  it.each(['true', 'TRUE', '1', 'yes', 'on', ' true '])('reads %j as true', (text) => {
    expect(load({ RERUN_PAID: text }).RERUN_PAID).toBe(true)
  })

  it.each(['false', '0', 'No', 'off'])('reads %j as false', (text) => {
    expect(load({ RERUN_PAID: text }).RERUN_PAID).toBe(false)
  })

  it.each([
    ['PORT', '65536', 'PORT: must be a whole number from 0 to 65535, not "65536"'],
    ['PORT', '80x', 'PORT: must be a whole number from 0 to 65535, not "80x"'],
    ['PORT', '1e3', 'PORT: must be a whole number from 0 to 65535, not "1e3"'],
    ['HEALTH_FALL', '0', 'HEALTH_FALL: must be a whole number from 1 to 100, not "0"'],
    ['GIVE_UP_SECONDS', 'Infinity', 'GIVE_UP_SECONDS: must be a number from 1 to 86400, not "Infinity"'],
    ['RERUN_PAID', 'maybe', 'RERUN_PAID: must be true or false, not "maybe"'],
    ['WS_DELIVERY', 'later', 'WS_DELIVERY: must be ordered or live, not "later"'],
    ['STORE', 'redis', 'REDIS_URL: is missing, although STORE=redis'],
    ['REDIS_PREFIX', '{a}', 'REDIS_PREFIX: must consist of letters, digits and . _ : -'],
    ['STORE', 'oracle', 'STORE: must be sqlite, memory, mysql or redis, not "oracle"'],
    ['LEASE_RENEW_MS', '15000', 'LEASE_RENEW_MS: must be less than LEASE_MS (15000), not 15000'],
    [
      'TRUSTED_PROXIES',
      '10.0.0.0/33',
      'TRUSTED_PROXIES: "10.0.0.0/33" must be an IP address or a CIDR range such as 10.0.0.0/8',
    ],
    ['TRUSTED_PROXIES', 'proxy', 'TRUSTED_PROXIES: "proxy" must be an IP address or a CIDR range such as 10.0.0.0/8'],
    ['ALLOWED_HOSTS', 'http://a', 'ALLOWED_HOSTS: "http://a" must be a host name with or without a port'],
    [
      'ALLOWED_ORIGINS',
      'https://a/b',
      'ALLOWED_ORIGINS: "https://a/b" must be an origin such as https://example.org, without a path',
    ],
    ['WORKER_AUTH_PASSWORD', 'pw', 'WORKER_AUTH_USERNAME: is missing, although WORKER_AUTH_PASSWORD is set'],
    ['WORKER_AUTH_USERNAME', 'a:b', 'WORKER_AUTH_USERNAME: must be text without a colon, not "a:b"'],
  ])('refuses %s=%s with a sentence', (name, text, problem) => {
    expect(problemsOf({ [name]: text })).toEqual([problem])
  })

  it('normalises the lists that say who may call', () => {
    const config = load({
      ALLOWED_HOSTS: 'Fleet.Example.org, gpu:8000 ::1',
      ALLOWED_ORIGINS: 'https://A.example.org/ http://b:80,tauri://localhost',
      TRUSTED_PROXIES: '10.0.0.0/8,::1 FD00::/8',
    })
    expect(config.ALLOWED_HOSTS).toEqual(['fleet.example.org', 'gpu:8000', '[::1]'])
    expect(config.ALLOWED_ORIGINS).toEqual(['https://a.example.org', 'http://b', 'tauri://localhost'])
    expect(config.TRUSTED_PROXIES).toEqual(['10.0.0.0/8', '::1', 'fd00::/8'])
  })

  it('reports every mistake together', () => {
    const problems = problemsOf({ PORT: 'x', STORE: 'y', WORKERS: 'ftp://a', WORKERS_FILE: 'absent.yaml', HOST: '::' })
    expect(problems.map((problem) => problem.split(':')[0])).toEqual([
      'PORT',
      'STORE',
      'WORKERS',
      'WORKERS_FILE',
      'HOST',
    ])
  })

  it('puts every problem on a line of the message', () => {
    expect(() => load({ PORT: 'x', HEALTH_RISE: 'y' })).toThrow(/2 mistakes:\n {2}- PORT: .*\n {2}- HEALTH_RISE: /)
  })
})

describe('the choice of a store', () => {
  it('is SQLite, Redis with REDIS_URL, and what STORE says', () => {
    const REDIS_URL = 'redis://me:p%40ss@cache:6380/3'
    expect(load({}).STORE).toBe('sqlite')
    expect(load({ REDIS_URL })).toMatchObject({ STORE: 'redis', REDIS_URL, REDIS_PREFIX: 'comfyfleet' })
    expect(load({ REDIS_URL: 'rediss://cache', STORE: 'sqlite' }).STORE).toBe('sqlite')
    expect(load({ REDIS_URL, STORE: 'redis' }).STORE).toBe('redis')
  })

  it.each([
    'cache:6379',
    'http://hunter2',
    'redis://',
    'redis://a/b',
    'redis://a/0?tls=hunter2',
    'redis://:%zz@hunter2',
  ])('refuses REDIS_URL=%s without repeating it', (REDIS_URL) => {
    const [problem, ...others] = problemsOf({ REDIS_URL })
    expect(others).toEqual([])
    expect(problem).toMatch(/^REDIS_URL: must be a URL such as/)
    expect(problem).not.toContain('hunter2')
  })
})

describe('secrets', () => {
  it('never repeats a wrong secret', () => {
    const problems = problemsOf({
      SECRET_KEY: 'hunter2',
      WORKERS: 'http://me:hunter2@gpu:8188/?a=hunter2, http://:hunter2@gpu, hunter2://x http://a:hunter2@[x]/',
    })
    expect(problems).toEqual([
      'SECRET_KEY: must be text of at least 32 characters',
      'WORKERS: entry 1 must not have a query (?) or fragment (#)',
      'WORKERS: entry 2 has a password without a user',
      'WORKERS: entry 3 must start with http:// or https://',
      'WORKERS: entry 4 is not a valid URL',
    ])
  })

  it('keeps spaces around a password', () => {
    const config = load({ WORKER_AUTH_USERNAME: ' me ', WORKER_AUTH_PASSWORD: ' pass ' })
    expect(config).toMatchObject({ WORKER_AUTH_USERNAME: 'me', WORKER_AUTH_PASSWORD: ' pass ' })
  })
})

describe('HOST', () => {
  it.each(['127.0.0.1', '127.9.9.9', '::1', 'localhost', '::ffff:127.0.0.1'])('may be %s without OPEN_API', (host) => {
    expect(load({ HOST: host }).HOST).toBe(host)
  })

  it.each(['0.0.0.0', '::', '192.168.1.2', 'gpu-box', '128.0.0.1', '::ffff:10.0.0.1'])('may not be %s', (host) => {
    expect(problemsOf({ HOST: host })).toEqual([expect.stringContaining('set OPEN_API=true')])
  })

  it('may be any address with OPEN_API=true', () => {
    expect(load({ HOST: '0.0.0.0', OPEN_API: 'true' }).HOST).toBe('0.0.0.0')
  })
})

describe('WORKERS', () => {
  it('takes URLs apart at commas and white space and credentials out of them', () => {
    const { workers } = load({ WORKERS: 'http://GPU1:8188/, https://me:p%40ss@gpu2/comfy/\n  http://[::1]:80' })
    expect(workers.map(({ url, auth }) => ({ url, auth }))).toEqual([
      { url: 'http://gpu1:8188', auth: undefined },
      { url: 'https://gpu2/comfy', auth: { username: 'me', password: 'p@ss' } },
      { url: 'http://[::1]', auth: undefined },
    ])
    expect(workers[0]).toMatchObject({ weight: 1, slots: 1, tags: [], headers: {}, metadata: {} })
  })

  it('refuses an address that is named twice, here or in the file', () => {
    writeFileSync(join(cwd, 'w.yaml'), '- http://a:1\n')
    expect(problemsOf({ WORKERS: 'http://b http://a:1/ http://B', WORKERS_FILE: 'w.yaml' })).toEqual([
      'WORKERS, WORKERS_FILE: http://b is named more than once',
      'WORKERS, WORKERS_FILE: http://a:1 is named more than once',
    ])
  })

  it.each(['http://a%zz:b@c', 'gpu1:8188', 'localhost:8188', 'http://', 'http://a:99999', 'http://a%3Ab:c@d'])(
    'refuses %s',
    (text) => {
      expect(problemsOf({ WORKERS: text })).toEqual([expect.stringMatching(/^WORKERS: entry 1 /)])
    },
  )
})
