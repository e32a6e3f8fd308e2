#!lua flags=allow-oom
-- Notes that a node's life is over, before anything is told of that: should the node come back it finds it noted.
-- KEYS: leases, seqs. ARGV: the node's number, its life.
-- Returns 1 where it is noted, 0 where the node has a live registration, or the number is not that life's.
local life = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if string.sub(life, 1, #ARGV[2] + 1) == ARGV[2] .. '|' then return 1 end
if life ~= ARGV[2] then return 0 end
local prefix = ARGV[1] .. ':'
for _, registration in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(registration, 1, #prefix) == prefix then return 0 end
end
redis.call('HSET', KEYS[2], ARGV[1], life .. '|' .. redis.call('TIME')[1])
return 1
