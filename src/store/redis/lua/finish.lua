-- Ends a prompt.
-- KEYS  1 prefix
-- ARGV  1 time  2 id  3 attempt  4 status  5 reason, optional  6 summary, optional  7 history entry, optional
--       8 log line  9 ms after which its texts expire, 0 for never  10… token, worker, type, subfolder, filename of each file
-- Reply the record, or nil when the attempt is not the newest or has ended
-- include: base prompt lists log history files attempt ending
local place = current(ARGV[2], ARGV[3])
if not place then return false end
local files = {}
for at = 10, #ARGV do files[at - 9] = ARGV[at] end
return end_prompt(place, {
  status = ARGV[4],
  reason = optional(ARGV[5]),
  summary = optional(ARGV[6]),
  history = optional(ARGV[7]),
  log = ARGV[8],
  ttl = tonumber(ARGV[9]),
  files = files,
})
