-- An ended prompt has a history entry as long as it is listed: its text is `entry:<place>`. `history` and the sets by
-- owner hold those that are admitted, the sets by caller all, each in order of finishing.
local function show_entry(place, owner, order)
  redis.call('ZADD', prefix .. 'history', order, place)
  redis.call('ZADD', prefix .. 'history:owner:' .. owner, order, place)
end

-- Removes a prompt's entry from everywhere, but leaves `listed` as it is.
local function remove_entry(place, owner, caller)
  redis.call('UNLINK', prefix .. 'entry:' .. place)
  redis.call('ZREM', prefix .. 'history', place)
  redis.call('ZREM', prefix .. 'history:owner:' .. owner, place)
  redis.call('ZREM', prefix .. 'history:caller:' .. caller, place)
  redis.call('ZREM', prefix .. 'untold', place)
end

-- Takes an ended prompt out of history and lists. It stays known.
local function drop_entry(place)
  local found = redis.call('HMGET', prompt_key(place), 'owner', 'caller')
  change(place, { 'listed', '0' })
  remove_entry(place, found[1], found[2])
end
