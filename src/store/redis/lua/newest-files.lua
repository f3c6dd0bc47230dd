-- The newest files of an owner, newest first.
-- KEYS  1 prefix
-- ARGV  1 time  2 type  3 owner  4 how many, from 1 on  5 how many to skip
-- Reply {place, token, worker, type, subfolder, filename, owner, prompt id} of each
-- include: base files
local first = tonumber(ARGV[5])
local files = {}
for at, place in ipairs(redis.call('ZREVRANGE', owner_key(ARGV[2], ARGV[3]), ARGV[5], text(first + ARGV[4] - 1))) do
  files[at] = { place, unpack(file_at(place)) }
end
return files
