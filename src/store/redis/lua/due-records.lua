-- The records of a collection that are due, the soonest and all that are due with the last of them.
-- KEYS  1 prefix
-- ARGV  1 time  2 collection  3 how many
-- Reply {the first: {id, version, value, index or false, due or false}, ids left}
-- include: base collection
local limit = tonumber(ARGV[3])
if limit < 1 then return { {}, {} } end
local set = due_key(ARGV[2])
local last = redis.call('ZRANGEBYSCORE', set, '-inf', text(now), 'WITHSCORES', 'LIMIT', ARGV[3] - 1, 1)[2]
return stored_all(ARGV[2], redis.call('ZRANGEBYSCORE', set, '-inf', last or text(now)))
