-- A part of the history, oldest first.
-- KEYS  1 prefix
-- ARGV  1 time  2 owner, optional  3 newest or from  4 how many to skip  5 how many, '' for all
-- Reply {entries of the first: {id, text}, places left}
-- include: base prompt entries
local owner, count = optional(ARGV[2]), tonumber(ARGV[5])
local set = prefix .. (owner and 'history:owner:' .. owner or 'history')
if count == 0 then return { {}, {} } end
if ARGV[3] == 'newest' then
  return entries(redis.call('ZRANGE', set, count and text(-count) or '0', '-1'))
end
local skip = tonumber(ARGV[4])
return entries(redis.call('ZRANGE', set, text(skip), count and text(skip + count - 1) or '-1'))
