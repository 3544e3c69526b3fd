-- Removes the oldest events, but never the newest.
--
-- KEYS[4] cur:<sink> of who trims   ARGV[4] fence
--                                   ARGV[5] seq of the last to go
-- Returns ok | held.
if redis.call('HGET', KEYS[4], 'f') ~= ARGV[4] then return {'held'} end
local first = math.min(tonumber(ARGV[5]) + 1, tonumber(part[3] or '0'))
redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', first))
return {'ok'}
