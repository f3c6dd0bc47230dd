-- Writes a record.
-- KEYS  1 prefix
-- ARGV  1 time  2 collection  3 id  4 value  5 index, optional  6 due, '' for never  7 version that it must have, '' for any
-- Reply its version, or nil when it has another one
-- include: base collection
local collection, id, index, due = ARGV[2], ARGV[3], optional(ARGV[5]), ARGV[6]
local key = record_key(collection, id)
local version = tonumber(redis.call('HGET', key, 'version') or '0')
if ARGV[7] ~= '' and tonumber(ARGV[7]) ~= version then return false end
redis.call('SADD', ids_key(collection), id)
unindex(collection, id)
redis.call('HDEL', key, 'index', 'due')
redis.call('HSET', key, 'version', text(version + 1), 'value', ARGV[4])
if index then
  redis.call('HSET', key, 'index', index)
  redis.call('SADD', ids_key(collection, index), id)
end
if due ~= '' then
  redis.call('HSET', key, 'due', due)
  redis.call('ZADD', due_key(collection), due, id)
end
return version + 1
