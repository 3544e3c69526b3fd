-- Makes a process the owner of a sink's cursor, or renews its lease.
--
-- KEYS[4] cur:<sink>   ARGV[4] owner
-- KEYS[5] own:<sink>   ARGV[5] lease, milliseconds
-- Returns ok, fence, a space and seq ('' for none) | held, milliseconds left.
local owner = redis.call('GET', KEYS[5])
if owner and owner ~= ARGV[4] then return {'held', tostring(redis.call('PTTL', KEYS[5]))} end
if not owner then redis.call('HINCRBY', KEYS[4], 'f', 1) end
redis.call('SET', KEYS[5], ARGV[4], 'PX', ARGV[5])
local cursor = redis.call('HMGET', KEYS[4], 'f', 's')
return {'ok', cursor[1] .. ' ' .. (cursor[2] or '')}
