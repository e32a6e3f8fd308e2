#!lua flags=allow-oom
-- Writes a registration's death, if its lease still has the value that was seen.
-- KEYS: leases, reaping. ARGV: the registration, the lease's value, seconds until it is reaped.
-- Returns 1 where this call did it, else 0.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local now = redis.call('TIME')
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], now[1] + ARGV[3], ARGV[1])
return 1
