#!lua flags=allow-oom
-- Puts closes that a dead node owes among what a bucket has to deliver, as far as there is room.
-- KEYS: the bucket's out. ARGV: how much may wait there already, the node's life, since when it is known to be dead (milliseconds
-- since 1970), then connection and details, over and over.
-- Returns how many of them were taken: the first so many.
local room = math.max(0, ARGV[1] - redis.call('XLEN', KEYS[1]))
local last = math.min(#ARGV, 3 + 2 * room)
for at = 4, last, 2 do
  redis.call('XADD', KEYS[1], '*', 'event', 'close', 'connection', ARGV[at], 'node', ARGV[2], 'found', ARGV[3], 'details', ARGV[at + 1])
end
return (last - 3) / 2
