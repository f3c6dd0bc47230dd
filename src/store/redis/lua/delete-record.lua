-- Deletes a record.
-- KEYS  1 prefix
-- ARGV  1 time  2 collection  3 id
-- Reply 1, or 0 when there was none
-- include: base collection
unindex(ARGV[2], ARGV[3])
redis.call('SREM', ids_key(ARGV[2]), ARGV[3])
return redis.call('DEL', record_key(ARGV[2], ARGV[3]))
