-- The newest file with a name among those of one prompt.
-- KEYS  1 prefix
-- ARGV  1 time  2 prompt id  3 type  4 filename  5 owner, optional  6 subfolder, optional
-- Reply {place, token, worker, type, subfolder, filename, owner, prompt id}, or nil
-- include: base files
local owner, subfolder = optional(ARGV[5]), optional(ARGV[6])
for _, place in ipairs(redis.call('ZREVRANGE', prefix .. 'prompt-files:' .. ARGV[2], 0, -1)) do
  local file = file_at(place)
  local is_named = file[3] == ARGV[3] and file[5] == ARGV[4]
  if is_named and (not owner or file[6] == owner) and (not subfolder or file[4] == subfolder) then
    return { place, unpack(file) }
  end
end
return false
