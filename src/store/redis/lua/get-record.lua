-- Reads a record.
-- KEYS  1 prefix
-- ARGV  1 time  2 collection  3 id
-- Reply {id, version, value, index or false, due or false}, or nil
-- include: base collection
return stored(ARGV[2], ARGV[3]) or false
