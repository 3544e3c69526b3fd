-- Forgets an intermediate of a hub.
--
-- KEYS[4] learned   ARGV[4] certificate
--                   ARGV[5] change
-- Returns ok | gone.
if redis.call('SREM', KEYS[4], ARGV[4]) == 0 then return {'gone'} end
return finish('', ARGV[5])
