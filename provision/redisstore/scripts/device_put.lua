-- Creates or replaces devices, those whose record is still the one that was
-- edited.
--
-- KEYS[4] h:<hub>  KEYS[5] names  KEYS[6] seq  KEYS[7] anchors
-- KEYS[8…] d:<id>, one per device
-- ARGV[4…] seven per device: name, record before ('' for none), record after,
--          event and change ('' for a creation), anchor before, anchor after ('' for none)
-- Returns ok, a letter per device: y put | n conflict; or hub (gone or being
-- deleted).
local hub = redis.call('HMGET', KEYS[4], 'v', 'x')
if not hub[1] or hub[2] then return {'hub'} end
local outcome = {}
for i = 8, #KEYS do
  local at = 4 + (i - 8) * 7
  local name, before, after = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if (redis.call('GET', KEYS[i]) or '') == before then
    redis.call('SET', KEYS[i], after)
    if before == '' then
      redis.call('ZADD', KEYS[5], 0, name)
      redis.call('ZADD', KEYS[6], redis.call('HINCRBY', KEYS[4], 'n', 1), name)
    else
      append(ARGV[at + 3])
      tell(ARGV[at + 4])
    end
    if ARGV[at + 5] ~= ARGV[at + 6] then
      count(KEYS[7], ARGV[at + 5], -1)
      count(KEYS[7], ARGV[at + 6], 1)
    end
    outcome[#outcome + 1] = 'y'
  else
    outcome[#outcome + 1] = 'n'
  end
end
finish('', '')
return {'ok', table.concat(outcome)}
