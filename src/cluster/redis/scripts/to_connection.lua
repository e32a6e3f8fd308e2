-- Hands a message to the inbox of a connection's owner, if the connection is registered.
-- KEYS: the registration's connections, the owner's inbox. ARGV: the connection's counter, the message, PUBLISH or SPUBLISH.
-- Returns how many received it, or -1 where there is no such connection.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return -1 end
return redis.call(ARGV[3], KEYS[2], ARGV[2])
