-- Enters a registration for reaping before its first key is written, so that a crash leaks nothing.
-- KEYS: reaping. ARGV: the registration, seconds until it may be reaped.
-- Returns when that is, in seconds since 1970.
local due = redis.call('TIME')[1] + ARGV[2]
redis.call('ZADD', KEYS[1], due, ARGV[1])
return due
