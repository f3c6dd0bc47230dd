-- Cancels a prompt that waits.
-- KEYS  1 prefix
-- ARGV  1 time  2 id  3 log line, which is the reason too  4 ms after which its texts expire, 0 for never
-- Reply the record, or nil when it does not wait
-- include: base prompt lists log history files ending
local place = place_of_id(ARGV[2])
if not place or redis.call('HGET', prompt_key(place), 'status') ~= 'queued' then return false end
return end_prompt(place, {
  status = 'cancelled',
  reason = ARGV[3],
  log = ARGV[3],
  ttl = tonumber(ARGV[4]),
  files = {},
})
