-- A record is the hash `record:<length of collection>:<collection>:<id>`. Its ids are in the set `records:<collection>`,
-- in one by index, and by time in a sorted set when they are due some day.
local function record_key(collection, id)
  return prefix .. 'record:' .. #collection .. ':' .. collection .. ':' .. id
end

local function ids_key(collection, index)
  local key = prefix .. 'records:' .. #collection .. ':' .. collection
  return index and key .. ':index:' .. index or key
end

local function due_key(collection)
  return prefix .. 'due:' .. collection
end

-- Id, version, value, and index and time or false.
local function stored(collection, id)
  local found = redis.call('HMGET', record_key(collection, id), 'version', 'value', 'index', 'due')
  if not found[1] then return nil end
  return { id, found[1], found[2], found[3], found[4] }
end

-- The first of these records, as many as one script may read, and the ids that are left.
local function stored_all(collection, ids)
  local found, left = {}, {}
  for at, id in ipairs(ids) do
    if at > 500 then left[#left + 1] = id else found[#found + 1] = stored(collection, id) end
  end
  return { found, left }
end

-- Takes a record out of its index and its time.
local function unindex(collection, id)
  local found = redis.call('HMGET', record_key(collection, id), 'index', 'due')
  if found[1] then redis.call('SREM', ids_key(collection, found[1]), id) end
  if found[2] then redis.call('ZREM', due_key(collection), id) end
end
