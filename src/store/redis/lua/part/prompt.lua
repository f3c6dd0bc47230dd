-- A prompt is the hash `prompt:<place>`, its place the sequence. Fields that are absent are 0 or not set. The hashes
-- `ids` and `jobs` lead from a prompt's id and its gateway job id to the place.
local function place_of_id(id)
  return redis.call('HGET', prefix .. 'ids', id)
end

local function prompt_key(place)
  return prefix .. 'prompt:' .. place
end

local function has_ended(status)
  return status == 'succeeded' or status == 'failed' or status == 'cancelled'
end

local function record(place)
  return redis.call('HGETALL', prompt_key(place))
end

-- Records of the first of these places, as many as one script may read, and the places that are left.
local function records(places)
  local found, left = {}, {}
  for at, place in ipairs(places) do
    if at <= 500 then found[at] = record(place) else left[at - 500] = place end
  end
  return found, left
end
