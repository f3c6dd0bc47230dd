-- The newest file of a name that answers a question (see part/files.lua).
-- KEYS  1 prefix
-- ARGV  1 time  2 type  3 filename  4 question: any, owner, …  5… its parts
-- Reply {place, token, worker, type, subfolder, filename, owner, prompt id}, or nil
-- include: base files
local question = table.concat(ARGV, '\0', 4) .. '\0'
local newest = redis.call(
  -- The place is digits, and a colon is the character after them.
  'ZREVRANGEBYLEX', name_key(ARGV[2], ARGV[3]), '(' .. question .. ':', '[' .. question, 'LIMIT', 0, 1
)[1]
if not newest then return false end
local place = string.sub(newest, #question + 1)
return { place, unpack(file_at(place)) }
