-- Reads the bodies of prompts, as many of the first as one reply should hold.
-- KEYS  1 prefix
-- ARGV  1 time  2… ids
-- Reply for each of the first ids {text or false, sealed or false}
-- include: base prompt
local bodies, bytes = {}, 0
for at = 2, #ARGV do
  if bytes > 4000000 then break end
  local place = place_of_id(ARGV[at])
  local body = place and redis.call('HMGET', prefix .. 'body:' .. place, 'text', 'sealed') or { false, false }
  bytes = bytes + (body[1] and #body[1] or 0)
  bodies[#bodies + 1] = body
end
return bodies
