-- Deletes a prompt that is still admitting.
-- KEYS  1 prefix
-- ARGV  1 time  2 id
-- Reply 1, or 0 when it is not known or visible
-- include: base prompt lists history forget
local place = place_of_id(ARGV[2])
if not place or redis.call('HGET', prompt_key(place), 'admitted') ~= '0' then return 0 end
forget(place)
return 1
