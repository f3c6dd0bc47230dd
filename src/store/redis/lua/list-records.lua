-- The records of a collection, in no order.
-- KEYS  1 prefix
-- ARGV  1 time  2 collection  3 index, optional
-- Reply {the first: {id, version, value, index or false, due or false}, ids left}
-- include: base collection
return stored_all(ARGV[2], redis.call('SMEMBERS', ids_key(ARGV[2], optional(ARGV[3]))))
