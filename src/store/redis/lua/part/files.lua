-- The index of files. The hash `files` has each file by its place in the order of announcement, its parts joined by NUL:
-- token, worker, type, subfolder, filename, owner, prompt id. The sorted set `files:<type>:<filename>` has one member for
-- each way to ask, all with score 0, so that they are in order of their text: the question, NUL, the place. The newest
-- answer to a question is then one look-up. `prompt-files:<id>` has the places of one prompt's files, and
-- `owner-files:<type>:<owner>` those of an owner's.
local function name_key(type, filename)
  return prefix .. 'files:' .. type .. ':' .. filename
end

local function owner_key(type, owner)
  return prefix .. 'owner-files:' .. type .. ':' .. owner
end

local function questions(file)
  local token, worker, subfolder, owner = file[1], file[2], file[4], file[6]
  return {
    'any',
    'owner\0' .. owner,
    'subfolder\0' .. subfolder,
    'owner subfolder\0' .. owner .. '\0' .. subfolder,
    'token subfolder\0' .. token .. '\0' .. subfolder,
    'worker subfolder\0' .. worker .. '\0' .. subfolder,
  }
end

local function file_at(place)
  local packed = redis.call('HGET', prefix .. 'files', place)
  if not packed then return nil end
  local file = {}
  for part in string.gmatch(packed .. '\0', '([^%z]*)%z') do file[#file + 1] = part end
  return file
end

local function add_file(file)
  local place = place_of(take('file', 1))
  redis.call('HSET', prefix .. 'files', place, table.concat(file, '\0'))
  redis.call('ZADD', prefix .. 'prompt-files:' .. file[7], 0, place)
  redis.call('ZADD', owner_key(file[3], file[6]), 0, place)
  for _, question in ipairs(questions(file)) do
    redis.call('ZADD', name_key(file[3], file[5]), 0, question .. '\0' .. place)
  end
end

local function forget_files(id)
  local key = prefix .. 'prompt-files:' .. id
  for _, place in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local file = file_at(place)
    if file then
      for _, question in ipairs(questions(file)) do
        redis.call('ZREM', name_key(file[3], file[5]), question .. '\0' .. place)
      end
      redis.call('ZREM', owner_key(file[3], file[6]), place)
      redis.call('HDEL', prefix .. 'files', place)
    end
  end
  redis.call('UNLINK', key)
end
