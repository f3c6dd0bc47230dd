/** What each connection is told before it is used. */
export function sessionStatements({ lockWaitSeconds }: { lockWaitSeconds: number }): string[] {
  return [
    // Each verb says itself what it locks; gaps between rows need no locks.
    'set session transaction isolation level read committed',
    // Every query has an index made for it; two that are intersected lose the order and read thousands of rows for one.
    `set session optimizer_switch = 'index_merge_intersection=off'`,
    `set session sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, foreign_key_checks = 1, ` +
      `innodb_lock_wait_timeout = ${lockWaitSeconds}`,
  ]
}
