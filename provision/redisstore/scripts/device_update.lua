-- Replaces a device's record, if it is still the one that was edited.
--
-- KEYS[4] d:<id>    ARGV[4] record before   ARGV[6] event
--                   ARGV[5] record after    ARGV[7] change
-- Returns ok | conflict | gone.
local record = redis.call('GET', KEYS[4])
if not record then return {'gone'} end
if record ~= ARGV[4] then return {'conflict'} end
redis.call('SET', KEYS[4], ARGV[5])
return finish(ARGV[6], ARGV[7])
