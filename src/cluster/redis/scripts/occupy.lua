#!lua flags=allow-oom
-- Holds channels for a registration and lets them go; decides which of them are occupied or vacated by that.
-- KEYS: a bucket's state, calls, dead and out, then a channel's holders for each operation.
-- ARGV: the registration, the call's number ('' for a reaper, which lets go for a dead one), the number of the last call that
-- was acknowledged, the birth that the caller knows ('' for none), milliseconds of the bucket's youth, how much of out may
-- wait, which events are to be told (their names with blanks around them), then operation and channel, over and over: '+' hold,
-- '=' hold again after the bucket was lost, '-' let go.
-- A bucket is young where Redis has just come to it, for the first time or empty: those who held before hold again, silently,
-- and nothing else is done.
-- Returns how it went, the birth, how many changes were decided, how many waiting entries were given up. How: 'done'; 'young':
-- only holding again was done; and where nothing was done: 'dead': the registration is; 'late': a later call was here; 'lost':
-- the bucket is not what the caller knows.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local born = redis.call('HGET', KEYS[1], 'born')
if ARGV[2] ~= '' then
  if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return {'dead', '', 0, 0} end
  if not born then
    born = string.format('%.0f', now)
    redis.call('HSET', KEYS[1], 'born', born)
  end
  local number = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
  if number >= tonumber(ARGV[2]) then return {'late', born, 0, 0} end
  if number < tonumber(ARGV[3]) or (ARGV[4] ~= '' and ARGV[4] ~= born) then return {'lost', born, 0, 0} end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
-- A clock that was set back makes nothing young for long.
local young = born and math.abs(now - born) < ARGV[5] * 1000
local changes, given_up = 0, 0
local function decide(event, channel)
  local version = math.max(tonumber(redis.call('HGET', KEYS[1], 'version') or '0') + 1, now)
  version = string.format('%.0f', version)
  redis.call('HSET', KEYS[1], 'version', version)
  changes = changes + 1
  if not string.find(ARGV[7], ' ' .. event .. ' ', 1, true) then return end
  local over = redis.call('XLEN', KEYS[4]) - ARGV[6] + 1
  if over > 0 then
    redis.call('XTRIM', KEYS[4], 'MAXLEN', '=', ARGV[6] - 1)
    given_up = given_up + over
  end
  redis.call('XADD', KEYS[4], '*', 'event', event, 'channel', channel, 'version', version)
end
for at = 8, #ARGV, 2 do
  local operation, channel, holders = ARGV[at], ARGV[at + 1], KEYS[5 + (at - 8) / 2]
  if operation == '=' then
    redis.call('SADD', holders, ARGV[1])
  elseif not young and operation == '+' then
    if redis.call('SADD', holders, ARGV[1]) == 1 and redis.call('SCARD', holders) == 1 then decide('occupied', channel) end
  elseif not young and operation == '-' then
    if redis.call('SREM', holders, ARGV[1]) == 1 and redis.call('EXISTS', holders) == 0 then decide('vacated', channel) end
  end
end
return {young and 'young' or 'done', born or '', changes, given_up}
