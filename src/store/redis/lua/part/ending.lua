-- Ends a prompt and answers its record. The outcome has status, log, files (a flat list of token, worker, type, subfolder,
-- filename), ttl (above 0: milliseconds after which its texts expire by themselves), and perhaps reason, summary, history.
local function end_prompt(place, outcome)
  local history = outcome.history
  local key = prompt_key(place)
  local found = redis.call('HMGET', key, 'id', 'owner', 'caller', 'client', 'admitted')
  local order = text(take('finish', 1))
  local changes = {
    'status', outcome.status, 'finished', text(now), 'order', order, 'listed', history and '1' or '0',
  }
  for _, field in ipairs({ 'reason', 'summary' }) do
    if outcome[field] then
      changes[#changes + 1] = field
      changes[#changes + 1] = outcome[field]
    end
  end
  change(place, changes)
  redis.call('ZREM', prefix .. 'unfinished', place)
  redis.call('ZADD', prefix .. 'finished', order, place)
  redis.call('ZADD', prefix .. 'ended', text(now), place)
  redis.call('HDEL', prefix .. 'body:' .. place, 'sealed')
  if history then
    redis.call('SET', prefix .. 'entry:' .. place, history)
    redis.call('ZADD', prefix .. 'history:caller:' .. found[3], order, place)
    if found[5] == '1' then show_entry(place, found[2], order) end
    if found[4] and redis.call('HGET', key, 'told') ~= '1' then
      redis.call('ZADD', prefix .. 'untold', text(now), place)
    end
  end
  local files = outcome.files
  for at = 1, #files, 5 do
    add_file({ files[at], files[at + 1], files[at + 2], files[at + 3], files[at + 4], found[2], found[1] })
  end
  append_log(place, outcome.log)
  if outcome.ttl > 0 then
    for _, kind in ipairs({ 'body:', 'entry:', 'log:' }) do redis.call('PEXPIRE', prefix .. kind .. place, text(outcome.ttl)) end
  end
  return record(place)
end
