#!lua flags=allow-oom
-- Goes on with a reaping: puts off the moment at which somebody else may take it over.
-- KEYS: reaping. ARGV: the registration, seconds.
-- Returns 1, or 0 where somebody else has finished it.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], redis.call('TIME')[1] + ARGV[2], ARGV[1])
return 1
