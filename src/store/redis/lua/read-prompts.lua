-- Reads prompts by their places. One that is gone is an empty record.
-- KEYS  1 prefix
-- ARGV  1 time  2… places
-- Reply {records of the first, places left}
-- include: base prompt
local places = {}
for at = 2, #ARGV do places[at - 1] = ARGV[at] end
return { records(places) }
