-- Creates a device, on its first connection or by hand.
--
-- KEYS[4] h:<hub>   ARGV[4] version of the hub that it was decided with
-- KEYS[5] d:<id>    ARGV[5] name
-- KEYS[6] names     ARGV[6] record
-- KEYS[7] seq       ARGV[7] event
-- KEYS[8] anchors   ARGV[8] its anchor, '' for none
-- Returns ok | exists, record | hub (gone, being deleted, or changed).
local hub = redis.call('HMGET', KEYS[4], 'v', 'x')
if hub[1] ~= ARGV[4] or hub[2] then return {'hub'} end
local record = redis.call('GET', KEYS[5])
if record then return {'exists', record} end
redis.call('SET', KEYS[5], ARGV[6])
redis.call('ZADD', KEYS[6], 0, ARGV[5])
redis.call('ZADD', KEYS[7], redis.call('HINCRBY', KEYS[4], 'n', 1), ARGV[5])
count(KEYS[8], ARGV[8], 1)
return finish(ARGV[7], '')
