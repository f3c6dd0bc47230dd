-- A page of the job lists.
-- KEYS  1 prefix
-- ARGV  1 time  2 sort: created or duration  3 1 for descending  4 offset  5 limit, '' for none  6 owner, optional
--       7 workflow, optional  8… statuses, each once
-- Reply {total, records of the first, places left}
-- include: base prompt lists
local offset, limit = tonumber(ARGV[4]), tonumber(ARGV[5])
local sets, total, lowest, highest = {}, 0, nil, nil
for at = 8, #ARGV do
  local set = list_key(ARGV[2], ARGV[at], optional(ARGV[6]), optional(ARGV[7]))
  local count = redis.call('ZCARD', set)
  if count > 0 then
    local first = tonumber(redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2])
    local last = tonumber(redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2])
    lowest = math.min(lowest or first, first)
    highest = math.max(highest or last, last)
    sets[#sets + 1] = { key = set, rank = 0 }
    total = total + count
  end
end

-- The page as ranks of the ascending order: from `skip` on, `wanted` places.
local wanted = math.max(0, math.min(limit or total, total - offset))
local skip = ARGV[3] == '1' and total - offset - wanted or offset
if wanted == 0 then return { total, {}, {} } end

-- Finds the highest score that has at most `skip` places below it, in whole milliseconds, rather than walk through them.
local function below(score)
  local count = 0
  for _, set in ipairs(sets) do
    set.below = redis.call('ZCOUNT', set.key, '-inf', '(' .. text(score))
    count = count + set.below
  end
  return count
end
if skip > 0 and #sets > 1 then
  while lowest < highest do
    local middle = math.floor((lowest + highest + 1) / 2)
    if below(middle) <= skip then lowest = middle else highest = middle - 1 end
  end
  skip = skip - below(lowest)
  for _, set in ipairs(sets) do set.rank = set.below end
elseif skip > 0 then
  sets[1].rank = skip
  skip = 0
end

-- The next of a set, read ahead in pieces.
local function head(set)
  if not set.piece or set.at > #set.piece then
    set.piece = redis.call('ZRANGE', set.key, text(set.rank), text(set.rank + 199), 'WITHSCORES')
    set.rank = set.rank + 200
    set.at = 1
  end
  return set.piece[set.at], tonumber(set.piece[set.at + 1])
end

local places = {}
while #places < wanted do
  local next_set, next_place, next_score
  for _, set in ipairs(sets) do
    local place, score = head(set)
    if place and (not next_set or score < next_score or (score == next_score and place < next_place)) then
      next_set, next_place, next_score = set, place, score
    end
  end
  next_set.at = next_set.at + 2
  if skip > 0 then skip = skip - 1 else places[#places + 1] = next_place end
end
if ARGV[3] == '1' then
  local reversed = {}
  for at = #places, 1, -1 do reversed[#reversed + 1] = places[at] end
  places = reversed
end
return { total, records(places) }
