-- Removes a session, whether it is there or not.
--
-- KEYS[4] s:<device>         ARGV[4] session (16 bytes) ‖ device (16 bytes)
-- KEYS[5] h:<hub>:sessions   ARGV[5] hub (16 bytes)
-- KEYS[6] e:<envoy>
-- Returns ok.
redis.call('HDEL', KEYS[4], string.sub(ARGV[4], 1, 16))
redis.call('ZREM', KEYS[5], ARGV[4])
redis.call('SREM', KEYS[6], ARGV[4] .. ARGV[5])
return {'ok'}
