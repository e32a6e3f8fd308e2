#!lua flags=allow-oom
-- Hands out what a bucket has to deliver: to one node at a time, so that it is delivered in order. What somebody has had for
-- too long is handed out again.
-- KEYS: the bucket's state, calls and out. ARGV: the caller's registration ('' for none), the consumer group and its one
-- consumer, milliseconds after which another one gets what was handed out, how many entries.
-- Returns the bucket's birth, the number of the registration's last call, and the entries, each with its id and its fields.
local born = redis.call('HGET', KEYS[1], 'born') or ''
local number = redis.call('HGET', KEYS[2], ARGV[1]) or '0'
if redis.call('XLEN', KEYS[3]) == 0 then return {born, number, {}} end
local pending = redis.pcall('XPENDING', KEYS[3], ARGV[2])
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[3], ARGV[2], '0')
elseif pending[1] > 0 then
  local claimed = redis.call('XAUTOCLAIM', KEYS[3], ARGV[2], ARGV[3], ARGV[4], '0', 'COUNT', ARGV[5])
  return {born, number, claimed[2]}
end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[5], 'STREAMS', KEYS[3], '>')
return {born, number, read and read[1] and read[1][2] or {}}
