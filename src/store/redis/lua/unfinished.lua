-- All prompts that have not ended, by sequence.
-- KEYS  1 prefix
-- ARGV  1 time
-- Reply {records of the first, places left}
-- include: base prompt
return { records(redis.call('ZRANGE', prefix .. 'unfinished', 0, -1)) }
