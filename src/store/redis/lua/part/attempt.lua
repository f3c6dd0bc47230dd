-- The place of a prompt that has not ended and whose newest attempt has this number, and its status; else nil.
local function current(id, number)
  local place = place_of_id(id)
  if not place then return nil end
  local found = redis.call('HMGET', prompt_key(place), 'status', 'attempt')
  if tonumber(found[2] or '0') ~= tonumber(number) or has_ended(found[1]) then return nil end
  return place, found[1]
end
