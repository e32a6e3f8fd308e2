#!lua flags=allow-oom
-- Takes a registration out of the cluster, by its own node.
-- KEYS: leases, reaping. ARGV: the registration, seconds until another node may reap it should this one not finish.
local now = redis.call('TIME')
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], now[1] + ARGV[2], ARGV[1])
return 1
