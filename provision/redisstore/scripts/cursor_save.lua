-- Moves a sink's cursor, unless another process has claimed it since. A lease
-- that is over, and that nobody else has taken, is taken anew.
--
-- KEYS[4] cur:<sink>   ARGV[4] owner   ARGV[6] seq, '' to leave it
-- KEYS[5] own:<sink>   ARGV[5] fence   ARGV[7] lease, milliseconds; 0 ends it
-- Returns ok | held.
local cursor = redis.call('HMGET', KEYS[4], 'f', 's')
if cursor[1] ~= ARGV[5] then return {'held'} end
if ARGV[6] ~= '' and tonumber(ARGV[6]) >= tonumber(cursor[2] or '0') then
  redis.call('HSET', KEYS[4], 's', ARGV[6])
end
if ARGV[7] == '0' then redis.call('DEL', KEYS[5])
else redis.call('SET', KEYS[5], ARGV[4], 'PX', ARGV[7]) end
return {'ok'}
