-- Frees a hub name, if its reservation is still the one that was looked at.
--
-- KEYS[1] name:<name>   ARGV[1] reservation as it was
-- Returns ok.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {'ok'}
