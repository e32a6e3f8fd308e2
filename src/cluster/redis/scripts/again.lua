#!lua flags=allow-oom
-- Puts what was not taken behind everything else that a bucket has to deliver. Only for what nothing is ordered by.
-- KEYS: the bucket's out. ARGV: the consumer group, then the entries' ids.
-- Returns how many of them were still there.
local moved = 0
for at = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[at], ARGV[at])[1]
  if entry then
    redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[at])
    redis.call('XDEL', KEYS[1], ARGV[at])
    moved = moved + 1
  end
end
return moved
