-- Forgets a prompt with body, entry and log. Its files stay in the index.
local function forget(place)
  local found = redis.call('HMGET', prompt_key(place), 'id', 'job', 'owner', 'caller')
  change(place, { 'listed', '0' })
  remove_entry(place, found[3], found[4])
  redis.call('HDEL', prefix .. 'ids', found[1])
  if redis.call('HGET', prefix .. 'jobs', found[2]) == place then redis.call('HDEL', prefix .. 'jobs', found[2]) end
  for _, set in ipairs({ 'unfinished', 'finished', 'ended' }) do redis.call('ZREM', prefix .. set, place) end
  redis.call('UNLINK', prompt_key(place), prefix .. 'body:' .. place, prefix .. 'log:' .. place)
end
