-- Admits a prompt, or says that its id is known or in use (judgeKnownId in admission.ts has the rule).
-- KEYS  1 prefix
-- ARGV  1 time  2 idempotency window in ms  3 id  4 owner  5 body hash  6 gateway job id  7 number: '' for the sequence,
--       'front', or the number  8 body  9 sealed keys, optional  10… further fields and values of the prompt
-- Reply {'admitted', sequence, time} or {'known', record} or {'in use'}
-- include: base prompt lists history forget
local id, owner, hash, job, number = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local old = place_of_id(id)
if old then
  local known = redis.call('HMGET', prompt_key(old), 'owner', 'hash', 'status', 'finished')
  if known[1] ~= owner then return { 'in use' } end
  if not has_ended(known[3]) or now - known[4] < tonumber(ARGV[2]) then
    if known[2] ~= hash then return { 'in use' } end
    return { 'known', record(old) }
  end
end
local sequence = take('prompt', 1)
if old then forget(old) end
local place = place_of(sequence)
if number == '' then
  number = text(sequence)
elseif number == 'front' then
  number = sequence == 0 and '0' or '-' .. text(sequence)
end
redis.call('HSET', prefix .. 'ids', id, place)
redis.call('HSET', prefix .. 'jobs', job, place)
redis.call('ZADD', prefix .. 'unfinished', text(sequence), place)
redis.call('HSET', prefix .. 'body:' .. place, 'text', ARGV[8])
local sealed = optional(ARGV[9])
if sealed then redis.call('HSET', prefix .. 'body:' .. place, 'sealed', sealed) end
local fields = {
  'id', id, 'owner', owner, 'hash', hash, 'job', job, 'number', number, 'sequence', text(sequence),
  'status', 'queued', 'listed', '1', 'created', text(now),
}
for at = 10, #ARGV do fields[#fields + 1] = ARGV[at] end
change(place, fields)
return { 'admitted', sequence, now }
