-- Puts names on a hub's claim list. Run twice, it changes nothing.
--
-- KEYS[4] h:<hub>   ARGV[4] most names on a list
-- KEYS[5] claims    ARGV[5…] names
-- Returns ok, how many are new | hub (gone, or being deleted) | full, how many
-- there are.
local hub = redis.call('HMGET', KEYS[4], 'v', 'x')
if not hub[1] or hub[2] then return {'hub'} end
local seen, fresh = {}, {}
for i = 5, #ARGV do
  if not seen[ARGV[i]] and redis.call('HEXISTS', KEYS[5], ARGV[i]) == 0 then
    seen[ARGV[i]] = true
    fresh[#fresh + 1] = ARGV[i]
  end
end
local have = redis.call('HLEN', KEYS[5])
if have + #fresh > tonumber(ARGV[4]) then return {'full', tostring(have)} end
for _, name in ipairs(fresh) do redis.call('HSET', KEYS[5], name, '0') end
return {'ok', tostring(#fresh)}
