-- Deletes a device, if its record is still the one that the event tells of.
--
-- KEYS[4] d:<id>    ARGV[4] record
-- KEYS[5] names     ARGV[5] name
-- KEYS[6] seq       ARGV[6] event
-- KEYS[7] anchors   ARGV[7] change, ARGV[8] its anchor, '' for none
-- Returns ok | conflict | gone.
local record = redis.call('GET', KEYS[4])
if not record then return {'gone'} end
if record ~= ARGV[4] then return {'conflict'} end
redis.call('DEL', KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[5])
redis.call('ZREM', KEYS[6], ARGV[5])
count(KEYS[7], ARGV[8], -1)
return finish(ARGV[6], ARGV[7])
