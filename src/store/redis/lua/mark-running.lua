-- Marks a claimed prompt as running; its first start is kept.
-- KEYS  1 prefix
-- ARGV  1 time  2 id  3 attempt
-- Reply 1, or 0 when the attempt is not the newest, was given up, or has ended
-- include: base prompt lists attempt
local place, status = current(ARGV[2], ARGV[3])
if not place or status == 'queued' then return 0 end
if status == 'dispatching' then change(place, { 'status', 'running' }) end
redis.call('HSETNX', prompt_key(place), 'started', text(now))
return 1
