-- Claims a node's number for a life.
-- KEYS: seqs. ARGV: the number, the life's id.
-- Returns 1 where the life holds it (now or since before, even if it was taken for over), 0 where another does or did.
local life = redis.call('HGET', KEYS[1], ARGV[1])
if not life then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  return 1
end
return (life == ARGV[2] or string.sub(life, 1, #ARGV[2] + 1) == ARGV[2] .. '|') and 1 or 0
