-- Renews a lease.
-- KEYS: leases. ARGV: the registration, the lease's new value.
-- Returns Redis's clock in seconds and microseconds, or nil where the registration is not (any more) in leases.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return false end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('TIME')
