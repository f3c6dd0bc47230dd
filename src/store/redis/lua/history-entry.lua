-- The text of a prompt's history entry.
-- KEYS  1 prefix
-- ARGV  1 time  2 id
-- Reply the text, or nil
-- include: base prompt
local place = place_of_id(ARGV[2])
return place and redis.call('GET', prefix .. 'entry:' .. place)
