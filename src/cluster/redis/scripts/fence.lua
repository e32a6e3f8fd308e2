#!lua flags=allow-oom
-- Keeps a dead registration from holding anything in a bucket from here on, however late its calls come.
-- KEYS: the bucket's calls and dead. ARGV: the registration, seconds for which that is remembered.
local now = redis.call('TIME')[1]
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
