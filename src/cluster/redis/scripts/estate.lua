#!lua flags=allow-oom
-- Begins the reaping of a dead registration: whatever its node still writes is refused from here on, and since when is noted.
-- KEYS: the registration's node hash. ARGV: the name of the fact that says since when (milliseconds since 1970).
-- Returns the facts that are kept of the node; none where they are gone.
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
redis.call('HDEL', KEYS[1], 'batch')
local now = redis.call('TIME')
redis.call('HSETNX', KEYS[1], ARGV[1], string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)))
return redis.call('HGETALL', KEYS[1])
