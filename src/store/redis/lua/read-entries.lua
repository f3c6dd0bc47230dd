-- Reads history entries by the places of their prompts.
-- KEYS  1 prefix
-- ARGV  1 time  2… places
-- Reply {entries of the first: {id, text}, places left}
-- include: base prompt entries
local places = {}
for at = 2, #ARGV do places[at - 1] = ARGV[at] end
return entries(places)
