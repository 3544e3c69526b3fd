-- Voids a reservation of a hub name, unless the hub does carry the name: from
-- then on the hub cannot take the name by this reservation or an older one.
--
-- KEYS[4] h:<hub>     ARGV[4] name
-- KEYS[5] void:<hub>  ARGV[5] epoch of the reservation
-- Returns ok | named (the name is the hub's).
if redis.call('HGET', KEYS[4], 'name') == ARGV[4] then return {'named'} end
if tonumber(redis.call('GET', KEYS[5]) or '0') < tonumber(ARGV[5]) then
  -- Far longer than the call that holds the reservation can take.
  redis.call('SET', KEYS[5], ARGV[5], 'EX', 3600)
end
return finish('', '')
