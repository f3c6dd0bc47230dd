-- What every script starts with. KEYS[1] is the prefix of all keys, so all lie in its hash slot. ARGV[1] is the time in
-- milliseconds since the epoch, '' for Redis's own clock. No text that arrives here holds a NUL.
local prefix = KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A number as Redis reads it; plain concatenation would keep 14 digits only.
local function text(number)
  return string.format('%.17g', number)
end

-- An argument that may be missing: '' is nil, '=x' is 'x'.
local function optional(argument)
  if argument ~= '' then return string.sub(argument, 2) end
end

-- Counts a number up by `count` and answers the first of those that were taken. Each counter starts at 0.
local function take(counter, count)
  return redis.call('HINCRBY', prefix .. 'counters', counter, text(count)) - count
end

-- A place in an order as text, so that equal scores of a sorted set are in order of their members.
local function place_of(sequence)
  return string.format('%014.0f', sequence)
end
