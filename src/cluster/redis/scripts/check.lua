-- Compares a registration's batch with the one that its node wrote last, and refreshes the node's figures if it is.
-- KEYS: the registration's node hash. ARGV: the batch's number, then fields and values to set.
-- Returns 1 where they agree, else 0.
if redis.call('HGET', KEYS[1], 'batch') ~= ARGV[1] then return 0 end
if #ARGV > 1 then redis.call('HSET', KEYS[1], unpack(ARGV, 2)) end
return 1
