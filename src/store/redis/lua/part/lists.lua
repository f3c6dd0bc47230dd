-- The job lists: sorted sets of places for each sort and status, for all, an owner, a workflow, and both. Only prompts
-- that are admitted and listed are in them.
local function list_key(sort, status, owner, flow)
  local key = prefix .. 'list:' .. sort .. ':' .. status
  if owner and flow then return key .. ':both:' .. #owner .. ':' .. owner .. ':' .. flow end
  if owner then return key .. ':owner:' .. owner end
  if flow then return key .. ':flow:' .. flow end
  return key
end

local function list_keys(sort, status, owner, flow)
  local keys = { list_key(sort, status), list_key(sort, status, owner) }
  if flow then
    keys[3] = list_key(sort, status, nil, flow)
    keys[4] = list_key(sort, status, owner, flow)
  end
  return keys
end

-- Changes fields of a prompt and moves it to the lists where it belongs then. `changes` is a flat list.
local function change(place, changes)
  local key = prompt_key(place)
  local names = { 'status', 'owner', 'flow', 'admitted', 'listed', 'created', 'started', 'finished' }
  local before = redis.call('HMGET', key, unpack(names))
  redis.call('HSET', key, unpack(changes))
  local after = redis.call('HMGET', key, unpack(names))
  local was_in = before[4] == '1' and before[5] == '1'
  local is_in = after[4] == '1' and after[5] == '1'
  local has_moved = not is_in or before[1] ~= after[1]
  local duration = after[7] and after[8] and text(after[8] - after[7]) or '0'
  for sort, score in pairs({ created = after[6], duration = duration }) do
    if was_in and has_moved then
      for _, list in ipairs(list_keys(sort, before[1], before[2], before[3])) do redis.call('ZREM', list, place) end
    end
    if is_in then
      for _, list in ipairs(list_keys(sort, after[1], after[2], after[3])) do redis.call('ZADD', list, score, place) end
    end
  end
end
