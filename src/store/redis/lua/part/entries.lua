-- Texts of history entries, as many of the first places as one reply should hold, and the places that are left. An
-- entry whose text has expired is left out.
local function entries(places)
  local found, left, bytes = {}, {}, 0
  for at, place in ipairs(places) do
    if bytes > 4000000 or at > 500 then
      left[#left + 1] = place
    else
      local entry = redis.call('GET', prefix .. 'entry:' .. place)
      if entry then
        bytes = bytes + #entry
        found[#found + 1] = { redis.call('HGET', prompt_key(place), 'id'), entry }
      end
    end
  end
  return { found, left }
end
