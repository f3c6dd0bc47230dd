-- Reads a prompt by its id.
-- KEYS  1 prefix
-- ARGV  1 time  2 id
-- Reply the record, or nil
-- include: base prompt
local place = place_of_id(ARGV[2])
return place and record(place)
