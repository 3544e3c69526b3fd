-- Stores a new hub under a name that has been reserved for it.
--
-- KEYS[4] h:<hub>     ARGV[4] record    ARGV[7] epoch of the name's reservation
-- KEYS[5] void:<hub>  ARGV[5] version   ARGV[8] hub ID
-- KEYS[6] hubs        ARGV[6] name      ARGV[9] event, ARGV[10] change
-- Returns ok | exists | void (another hub took the name meanwhile).
if redis.call('EXISTS', KEYS[4]) == 1 then return {'exists'} end
if tonumber(redis.call('GET', KEYS[5]) or '0') >= tonumber(ARGV[7]) then return {'void'} end
redis.call('HSET', KEYS[4], 'r', ARGV[4], 'v', ARGV[5], 'name', ARGV[6])
redis.call('SADD', KEYS[6], ARGV[8])
return finish(ARGV[9], ARGV[10])
