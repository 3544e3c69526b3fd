-- Remembers intermediates of a hub, up to a limit.
--
-- KEYS[4] h:<hub>   ARGV[4] limit
-- KEYS[5] learned   ARGV[5] change
--                   ARGV[6…] certificates
-- Returns ok | hub (gone, or being deleted).
local hub = redis.call('HMGET', KEYS[4], 'v', 'x')
if not hub[1] or hub[2] then return {'hub'} end
local room = tonumber(ARGV[4]) - redis.call('SCARD', KEYS[5])
local learned = 0
for i = 6, #ARGV do
  if learned < room then learned = learned + redis.call('SADD', KEYS[5], ARGV[i]) end
end
if learned == 0 then return {'ok'} end
return finish('', ARGV[5])
