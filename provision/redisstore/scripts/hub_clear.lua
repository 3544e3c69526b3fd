-- Removes some devices of a hub that is being deleted.
--
-- KEYS[4] h:<hub>   KEYS[5] names   KEYS[6] seq   KEYS[7…] d:<id>
-- ARGV[4…] the devices' names
-- Returns ok | hub (gone, or not being deleted).
if not redis.call('HGET', KEYS[4], 'x') then return {'hub'} end
for i = 7, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = 4, #ARGV do
  redis.call('ZREM', KEYS[5], ARGV[i])
  redis.call('ZREM', KEYS[6], ARGV[i])
end
return finish('', '')
