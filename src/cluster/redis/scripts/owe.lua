#!lua flags=allow-oom
-- Puts closes that a dead node owes among what a bucket has to deliver.
-- KEYS: the bucket's out. ARGV: how much of it may wait, the node's life, then connection, details, and when it was found to be
-- owed (milliseconds since 1970, '' for now), over and over.
-- Returns how many waiting entries were given up.
local given_up = 0
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for at = 3, #ARGV, 3 do
  local over = redis.call('XLEN', KEYS[1]) - ARGV[1] + 1
  if over > 0 then
    redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', ARGV[1] - 1)
    given_up = given_up + over
  end
  local found = ARGV[at + 2] == '' and now or ARGV[at + 2]
  redis.call('XADD', KEYS[1], '*', 'event', 'close', 'connection', ARGV[at], 'node', ARGV[2], 'found', found, 'details', ARGV[at + 1])
end
return given_up
