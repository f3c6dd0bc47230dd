-- Reads a prompt's own log.
-- KEYS  1 prefix
-- ARGV  1 time  2 id
-- Reply lines of `<time> <text>`, oldest first
-- include: base prompt
local place = place_of_id(ARGV[2])
return place and redis.call('LRANGE', prefix .. 'log:' .. place, 0, -1) or {}
