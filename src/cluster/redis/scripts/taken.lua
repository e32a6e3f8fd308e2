#!lua flags=allow-oom
-- Takes what was delivered out of a bucket.
-- KEYS: the bucket's out. ARGV: the consumer group, then the entries' ids.
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
