-- Reads a prompt by its gateway job id.
-- KEYS  1 prefix
-- ARGV  1 time  2 gateway job id
-- Reply the record, or nil
-- include: base prompt
local place = redis.call('HGET', prefix .. 'jobs', ARGV[2])
return place and record(place)
