-- Forgets the oldest finished prompts, as many as one script should, with all of theirs.
-- KEYS  1 prefix
-- ARGV  1 time  2 how many to keep, '' for all  3 age in ms that is kept, '' for any
--       4, 5 '' in the first step, then the bounds that it answered
-- Reply {how many were forgotten, the last place in the order of finishing that is too many or '', the time before which
--       an end is too long ago or ''}; the step was the last one when it forgot none
-- include: base prompt lists history forget files
local surplus, before = ARGV[4], ARGV[5]
if surplus == '' and before == '' then
  if ARGV[2] ~= '' then
    surplus = redis.call('ZREVRANGE', prefix .. 'finished', ARGV[2], ARGV[2], 'WITHSCORES')[2] or ''
  end
  if ARGV[3] ~= '' then before = text(now - ARGV[3]) end
end
local places = {}
if surplus ~= '' then
  places = redis.call('ZRANGEBYSCORE', prefix .. 'finished', '-inf', surplus, 'LIMIT', 0, 100)
end
if #places == 0 and before ~= '' then
  places = redis.call('ZRANGEBYSCORE', prefix .. 'ended', '-inf', '(' .. before, 'LIMIT', 0, 100)
end
for _, place in ipairs(places) do
  local id = redis.call('HGET', prompt_key(place), 'id')
  forget(place)
  forget_files(id)
end
return { #places, surplus, before }
