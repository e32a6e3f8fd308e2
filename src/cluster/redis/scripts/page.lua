-- One step of a listing of counters, as one text: a reply with a thousand entries costs its reader a thousand objects, and
-- a hash's values are not wanted at all.
-- KEYS: a set, several, or a hash whose fields are listed. ARGV: SMEMBERS, SUNION or HKEYS; or SSCAN or HSCAN, the cursor, how many to look at.
-- Returns the next cursor, '0' at the end, and the entries with commas between them.
if #ARGV == 1 then return {'0', table.concat(redis.call(ARGV[1], unpack(KEYS)), ',')} end
local step = redis.call(ARGV[1], KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local entries = step[2]
if ARGV[1] == 'HSCAN' then
  entries = {}
  for at = 1, #step[2], 2 do entries[#entries + 1] = step[2][at] end
end
return {step[1], table.concat(entries, ',')}
