-- Prompts that ended after a moment and whose client was not told, in order of finishing.
-- KEYS  1 prefix
-- ARGV  1 time  2 how long ago at most, in ms
-- Reply {records of the first, places left}
-- include: base prompt
local places, orders = redis.call('ZRANGEBYSCORE', prefix .. 'untold', '(' .. text(now - ARGV[2]), '+inf'), {}
for _, place in ipairs(places) do orders[place] = tonumber(redis.call('ZSCORE', prefix .. 'finished', place)) end
-- Not in order of time alone: many may end in the same millisecond.
table.sort(places, function(a, b) return orders[a] < orders[b] end)
return { records(places) }
