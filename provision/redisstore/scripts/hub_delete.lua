-- Removes a hub that is being deleted and has no devices any more.
--
-- KEYS[4] h:<hub>   ARGV[4] hub ID
-- KEYS[5] names     ARGV[5] change
-- KEYS[6] seq
-- KEYS[7] learned
-- KEYS[8] hubs
-- KEYS[9] anchors
-- KEYS[10] revoked
-- KEYS[11] crls
-- KEYS[12] claims
-- Returns ok | hub (gone, or not being deleted) | devices (some are left).
if not redis.call('HGET', KEYS[4], 'x') then return {'hub'} end
if redis.call('ZCARD', KEYS[5]) > 0 then return {'devices'} end
redis.call('DEL', KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[9], KEYS[10], KEYS[11])
redis.call('UNLINK', KEYS[12]) -- up to a million names: freed in the background
redis.call('SREM', KEYS[8], ARGV[4])
return finish('', ARGV[5])
