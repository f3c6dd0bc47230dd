-- Puts a claimed prompt back in line.
-- KEYS  1 prefix
-- ARGV  1 time  2 id  3 attempt  4 1 when it was sent  5 1 when its worker died  6 log line
-- Reply the record, or nil when the attempt is not the newest, was given up, or has ended
-- include: base prompt lists log attempt
local place, status = current(ARGV[2], ARGV[3])
if not place or status == 'queued' then return false end
change(place, { 'status', 'queued' })
if ARGV[4] == '1' then redis.call('HINCRBY', prompt_key(place), 'sent', 1) end
if ARGV[5] == '1' then redis.call('HINCRBY', prompt_key(place), 'deaths', 1) end
append_log(place, ARGV[6])
return record(place)
