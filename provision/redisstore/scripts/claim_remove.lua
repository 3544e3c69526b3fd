-- Takes names off a hub's claim list, all without any. Run twice, it changes
-- nothing.
--
-- KEYS[4] claims   ARGV[4…] names
-- Returns ok, how many were on it.
local removed = 0
if #ARGV < 4 then removed = redis.call('HLEN', KEYS[4]) redis.call('UNLINK', KEYS[4]) end
for i = 4, #ARGV do removed = removed + redis.call('HDEL', KEYS[4], ARGV[i]) end
return {'ok', tostring(removed)}
