-- A prompt's own log: a list of `<time> <text>`, the newest 200 (`maxLogLines` in store.ts).
local function append_log(place, line)
  local key = prefix .. 'log:' .. place
  redis.call('RPUSH', key, text(now) .. ' ' .. line)
  redis.call('LTRIM', key, -200, -1)
end
