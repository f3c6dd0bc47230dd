-- Removes history entries. Prompts that have not ended stay as they are.
-- KEYS  1 prefix
-- ARGV  1 time  2 owner, optional  3… ids
-- Reply 1
-- include: base prompt lists history
local owner = optional(ARGV[2])
for at = 3, #ARGV do
  local place = place_of_id(ARGV[at])
  if place then
    local found = redis.call('HMGET', prompt_key(place), 'owner', 'status')
    if has_ended(found[2]) and (not owner or found[1] == owner) then drop_entry(place) end
  end
end
return 1
