-- Notes that the terminal messages of prompts reached their clients.
-- KEYS  1 prefix
-- ARGV  1 time  2… ids
-- Reply 1
-- include: base prompt
for at = 2, #ARGV do
  local place = place_of_id(ARGV[at])
  if place then
    redis.call('HSET', prompt_key(place), 'told', '1')
    redis.call('ZREM', prefix .. 'untold', place)
  end
end
return 1
