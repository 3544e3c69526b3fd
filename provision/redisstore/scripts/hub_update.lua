-- Replaces a hub's record, if it is still the one that was edited. Its version
-- fences every creation that was decided before.
--
-- KEYS[4] h:<hub>     ARGV[4] record before   ARGV[8] epoch of the name's reservation,
-- KEYS[5] void:<hub>  ARGV[5] record after            0 unless the name is new
--                     ARGV[6] version after   ARGV[9] 1 if it is being deleted, else ''
-- KEYS[6] names       ARGV[7] name            ARGV[10] event, ARGV[11] change
--                                             ARGV[12] 1 if it may have no devices, else ''
-- Returns ok | conflict | gone | void (another hub took the new name meanwhile)
-- | devices.
local record = redis.call('HGET', KEYS[4], 'r')
if not record then return {'gone'} end
if record ~= ARGV[4] then return {'conflict'} end
if ARGV[8] ~= '0' and tonumber(redis.call('GET', KEYS[5]) or '0') >= tonumber(ARGV[8]) then return {'void'} end
if ARGV[12] ~= '' and redis.call('ZCARD', KEYS[6]) > 0 then return {'devices'} end
redis.call('HSET', KEYS[4], 'r', ARGV[5], 'v', ARGV[6], 'name', ARGV[7])
if ARGV[9] ~= '' then redis.call('HSET', KEYS[4], 'x', ARGV[9]) end
return finish(ARGV[10], ARGV[11])
