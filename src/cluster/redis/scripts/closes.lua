-- One step of collecting the closes that a dead registration owes.
-- KEYS: its connections, or those whose end it has not told, then the hashes that hold what is not meant. ARGV: the cursor, how
-- many to look at, what the details of a connection begin with that owes one.
-- Returns the next cursor, '0' at the end, then counter and details of each.
local step = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found = {step[1]}
for at = 1, #step[2], 2 do
  local counter, details = step[2][at], step[2][at + 1]
  local owed = string.sub(details, 1, #ARGV[3]) == ARGV[3]
  for other = 2, #KEYS do
    owed = owed and redis.call('HEXISTS', KEYS[other], counter) == 0
  end
  if owed then
    found[#found + 1] = counter
    found[#found + 1] = details
  end
end
return found
