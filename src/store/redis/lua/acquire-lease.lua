-- Takes a free or expired lease, or renews one's own.
-- KEYS  1 prefix
-- ARGV  1 time  2 name  3 holder  4 ms it lasts
-- Reply the fence, or nil while another holds it
-- include: base
local key = prefix .. 'lease:' .. ARGV[2]
local held = redis.call('HMGET', key, 'holder', 'fence', 'expires')
local is_ours = held[1] == ARGV[3]
if held[1] and not is_ours and tonumber(held[3]) > now then return false end
local fence = is_ours and tonumber(held[2]) or take('fence', 1) + 1
redis.call('HSET', key, 'holder', ARGV[3], 'fence', text(fence), 'expires', text(now + ARGV[4]))
return fence
