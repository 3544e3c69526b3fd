-- Reserves a hub name, if its reservation is still the one that was looked at.
--
-- KEYS[1] name:<name>   ARGV[1] reservation as it was, '' if there was none
-- KEYS[2] epoch         ARGV[2] hub ID
-- Returns ok, reservation | held, the reservation as it is.
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return {'held', now} end
local mine = ARGV[2] .. ' ' .. string.format('%.0f', redis.call('INCR', KEYS[2]))
redis.call('SET', KEYS[1], mine)
return {'ok', mine}
