-- Changes what is revoked on a hub, if its record is still the one that the
-- change was decided with. The version that it raises fences every creation that
-- was decided before.
--
-- KEYS[4] h:<hub>   ARGV[4] record before   ARGV[7] event, ARGV[8] change
-- KEYS[5] revoked   ARGV[5] record after    ARGV[9…] key (5 or 6), field, value; '' removes it
-- KEYS[6] crls      ARGV[6] version after
-- Returns ok | conflict | gone.
local record = redis.call('HGET', KEYS[4], 'r')
if not record then return {'gone'} end
if record ~= ARGV[4] then return {'conflict'} end
redis.call('HSET', KEYS[4], 'r', ARGV[5], 'v', ARGV[6])
for i = 9, #ARGV, 3 do
  local key = KEYS[tonumber(ARGV[i])]
  if ARGV[i + 2] == '' then
    redis.call('HDEL', key, ARGV[i + 1])
  else
    redis.call('HSET', key, ARGV[i + 1], ARGV[i + 2])
  end
end
return finish(ARGV[7], ARGV[8])
