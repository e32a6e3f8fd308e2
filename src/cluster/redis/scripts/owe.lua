#!lua flags=allow-oom
-- Puts closes that a dead node owes among what a bucket has to deliver.
-- KEYS: the bucket's out. ARGV: how much of it may wait, the node's life, then connection and details, over and over.
-- Returns how many waiting entries were given up.
local given_up = 0
for at = 3, #ARGV, 2 do
  local over = redis.call('XLEN', KEYS[1]) - ARGV[1] + 1
  if over > 0 then
    redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', ARGV[1] - 1)
    given_up = given_up + over
  end
  redis.call('XADD', KEYS[1], '*', 'event', 'close', 'connection', ARGV[at], 'node', ARGV[2], 'details', ARGV[at + 1])
end
return given_up
