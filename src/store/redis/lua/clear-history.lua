-- Removes the oldest history entries of a caller, as many as one script should.
-- KEYS  1 prefix
-- ARGV  1 time  2 caller  3 the last place in the order of finishing to look at, '' for the newest there is
-- Reply {that last place, 1 when there are more else 0}
-- include: base prompt lists history
local set = prefix .. 'history:caller:' .. ARGV[2]
local last = ARGV[3]
if last == '' then last = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2] end
if not last then return { '0', 0 } end
local places = redis.call('ZRANGEBYSCORE', set, '-inf', last, 'LIMIT', 0, 200)
for _, place in ipairs(places) do drop_entry(place) end
return { last, #places == 200 and 1 or 0 }
