-- Makes an admitting prompt visible.
-- KEYS  1 prefix
-- ARGV  1 time  2 id
-- Reply 1, or 0 when it is not known or visible already
-- include: base prompt lists history
local place = place_of_id(ARGV[2])
if not place then return 0 end
local found = redis.call('HMGET', prompt_key(place), 'admitted', 'status', 'listed', 'owner', 'order')
if found[1] ~= '0' then return 0 end
change(place, { 'admitted', '1' })
if has_ended(found[2]) and found[3] == '1' then show_entry(place, found[4], found[5]) end
return 1
