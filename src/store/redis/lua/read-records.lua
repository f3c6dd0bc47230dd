-- Reads records by their ids.
-- KEYS  1 prefix
-- ARGV  1 time  2 collection  3… ids
-- Reply {the first: {id, version, value, index or false, due or false}, ids left}
-- include: base collection
local ids = {}
for at = 3, #ARGV do ids[at - 2] = ARGV[at] end
return stored_all(ARGV[2], ids)
