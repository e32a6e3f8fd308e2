-- Enters a registration for reaping before its first key is written, so that a crash leaks nothing.
-- KEYS: reaping. ARGV: the registration, seconds until it may be reaped.
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] + ARGV[2], ARGV[1])
return 1
