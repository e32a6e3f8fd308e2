-- Writes one batch of a registration, once.
-- KEYS: the registration's node hash, then every key that the batch touches.
-- ARGV: the batch's number, the number before it, then for each command: its name, the index of its key in KEYS, how many
-- arguments follow, and these.
-- Returns 1 where the batch is written (now or before), 0 where the registration is not the one that the writer knows:
-- fenced by a reaper, lost, or older than the writer thinks. Then nothing was written.
local batch = redis.call('HGET', KEYS[1], 'batch')
if batch == ARGV[1] then return 1 end
if batch ~= ARGV[2] then return 0 end
local at = 3
while at <= #ARGV do
  local count = tonumber(ARGV[at + 2])
  redis.call(ARGV[at], KEYS[tonumber(ARGV[at + 1])], unpack(ARGV, at + 3, at + 2 + count))
  at = at + 3 + count
end
redis.call('HSET', KEYS[1], 'batch', ARGV[1])
return 1
