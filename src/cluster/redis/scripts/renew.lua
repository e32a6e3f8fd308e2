#!lua flags=allow-oom
-- Renews a lease. Renewals overtake each other where connections change: a late one never puts the counter back.
-- KEYS: leases. ARGV: the registration, the lease's new value: a counter, and perhaps a sign behind it.
-- Returns Redis's clock in seconds and microseconds, or nil where the registration is not (any more) in leases.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held then return false end
local function counter(value) return tonumber(string.match(value, '^%d+') or '0') end
if counter(held) < counter(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return redis.call('TIME')
