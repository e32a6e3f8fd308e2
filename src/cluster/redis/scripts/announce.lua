-- Enters a registration for reaping before its first key is written, so that a crash leaks nothing.
-- KEYS: reaping, seqs. ARGV: the registration, seconds until it may be reaped, its node's number, its node's life.
-- Returns when that is, in seconds since 1970, and 1 where the life is noted as over, else 0.
local due = redis.call('TIME')[1] + ARGV[2]
redis.call('ZADD', KEYS[1], due, ARGV[1])
local life = redis.call('HGET', KEYS[2], ARGV[3]) or ''
return {due, string.sub(life, 1, #ARGV[4] + 1) == ARGV[4] .. '|' and 1 or 0}
