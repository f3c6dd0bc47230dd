-- Claims a queued prompt for a worker.
-- KEYS  1 prefix
-- ARGV  1 time  2 id  3 worker  4 fence  5 log line
-- Reply the number of the attempt, or nil when the fence was overtaken or the prompt is not queued
-- include: base prompt lists log
local seen = tonumber(redis.call('HGET', prefix .. 'counters', 'fence') or '0')
local fence = tonumber(ARGV[4])
if fence < seen then return false end
if fence > seen then redis.call('HSET', prefix .. 'counters', 'fence', ARGV[4]) end
local place = place_of_id(ARGV[2])
if not place then return false end
local found = redis.call('HMGET', prompt_key(place), 'status', 'attempt')
if found[1] ~= 'queued' then return false end
local number = tonumber(found[2] or '0') + 1
change(place, { 'status', 'dispatching', 'worker', ARGV[3], 'attempt', text(number) })
append_log(place, ARGV[5])
return number
