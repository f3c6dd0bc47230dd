-- Gives a lease up.
-- KEYS  1 prefix
-- ARGV  1 time  2 name  3 holder
-- Reply 1, or 0 when another holds it
-- include: base
local key = prefix .. 'lease:' .. ARGV[2]
if redis.call('HGET', key, 'holder') ~= ARGV[3] then return 0 end
return redis.call('DEL', key)
