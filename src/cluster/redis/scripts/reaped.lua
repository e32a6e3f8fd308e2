#!lua flags=allow-oom
-- Ends a reaping: the registration's keys are gone. If it was the last of its node's life, the life's end is noted, and
-- numbers whose life ended more than a day ago are free again.
-- KEYS: leases, reaping, seqs. ARGV: the registration, its node's number, its node's life ('' where not known), seconds to
-- keep a number.
redis.call('ZREM', KEYS[2], ARGV[1])
local prefix = ARGV[2] .. ':'
local last = true
for _, key in ipairs({redis.call('HKEYS', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1)}) do
  for _, registration in ipairs(key) do
    if string.sub(registration, 1, #prefix) == prefix then last = false end
  end
end
local now = tonumber(redis.call('TIME')[1])
if last and redis.call('HGET', KEYS[3], ARGV[2]) == ARGV[3] then
  redis.call('HSET', KEYS[3], ARGV[2], ARGV[3] .. '|' .. now)
end
local all = redis.call('HGETALL', KEYS[3])
for at = 1, #all, 2 do
  local ended = string.match(all[at + 1], '|(%d+)$')
  if ended and now - tonumber(ended) > tonumber(ARGV[4]) then redis.call('HDEL', KEYS[3], all[at]) end
end
return 1
