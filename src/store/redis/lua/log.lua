-- Adds a line to a prompt's own log.
-- KEYS  1 prefix
-- ARGV  1 time  2 id  3 text
-- Reply 1, or 0 for an unknown prompt
-- include: base prompt log
local place = place_of_id(ARGV[2])
if not place then return 0 end
append_log(place, ARGV[3])
return 1
