#!lua flags=allow-oom
-- Takes one registration that is due over for reaping.
-- KEYS: leases, reaping. ARGV: seconds until somebody else may take it over from this reaper.
-- Returns the registration, or nil.
local now = tonumber(redis.call('TIME')[1])
for _, registration in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 16)) do
  if redis.call('HEXISTS', KEYS[1], registration) == 0 then
    redis.call('ZADD', KEYS[2], now + ARGV[1], registration)
    return registration
  end
  redis.call('ZREM', KEYS[2], registration)
end
return false
