import type { Settings } from './schema.ts'

/** What is wrong with the settings for Redis. No message repeats the URL, which may hold a password. */
export function redisProblems({ STORE, REDIS_URL, REDIS_PREFIX }: Partial<Settings>): string[] {
  const problems: string[] = []
  if (STORE === 'redis' && REDIS_URL === undefined) problems.push('REDIS_URL: is missing, although STORE=redis')
  if (REDIS_URL !== undefined && !isRedisUrl(REDIS_URL)) {
    problems.push('REDIS_URL: must be a URL such as redis://user:password@host:6379/0, or rediss:// for TLS')
  }
  if (REDIS_PREFIX !== undefined && !/^[\w.:-]+$/.test(REDIS_PREFIX)) {
    problems.push('REDIS_PREFIX: must consist of letters, digits and . _ : -')
  }
  return problems
}

function isRedisUrl(text: string): boolean {
  if (text !== text.trim() || !URL.canParse(text)) return false
  const { protocol, username, password, hostname, pathname, search, hash } = new URL(text)
  if (!['redis:', 'rediss:'].includes(protocol) || hostname === '' || search !== '' || hash !== '') return false
  try {
    decodeURIComponent(username + password)
  } catch {
    return false
  }
  return /^(\/\d*)?$/.test(pathname)
}
