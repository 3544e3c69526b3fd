-- Replaces a device's record, if it is still the one that was edited.
--
-- KEYS[4] d:<id>    ARGV[4] record before   ARGV[6] event
-- KEYS[5] anchors   ARGV[5] record after    ARGV[7] change
-- KEYS[6] h:<hub>   ARGV[8] anchor before, ARGV[9] anchor after, '' for none
--                   ARGV[10] version of the hub that it was decided with, '' if by none
-- Returns ok | conflict | gone | hub (gone, being deleted, or changed).
if ARGV[10] ~= '' then
  local hub = redis.call('HMGET', KEYS[6], 'v', 'x')
  if hub[1] ~= ARGV[10] or hub[2] then return {'hub'} end
end
local record = redis.call('GET', KEYS[4])
if not record then return {'gone'} end
if record ~= ARGV[4] then return {'conflict'} end
redis.call('SET', KEYS[4], ARGV[5])
if ARGV[8] ~= ARGV[9] then
  count(KEYS[5], ARGV[8], -1)
  count(KEYS[5], ARGV[9], 1)
end
return finish(ARGV[6], ARGV[7])
