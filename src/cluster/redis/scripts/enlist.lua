#!lua flags=allow-oom
-- Makes a registration that is written whole the live one of its node, whose life is not over then, whatever was noted.
-- KEYS: leases, reaping, seqs. ARGV: the registration, when it was to be reaped, its first lease, seconds until the old ones are
-- reaped, its node's number and life, then the node's old registrations, listed or not.
-- Returns 1, or 0 where a reaper has taken it over meanwhile (which changes its time): its keys are gone or going.
if tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '-1') ~= tonumber(ARGV[2]) then return 0 end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[1])
local life = redis.call('HGET', KEYS[3], ARGV[5]) or ''
if string.sub(life, 1, #ARGV[6] + 1) == ARGV[6] .. '|' then redis.call('HSET', KEYS[3], ARGV[5], ARGV[6]) end
for at = 7, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[at])
  redis.call('ZADD', KEYS[2], now[1] + ARGV[4], ARGV[at])
end
return 1
