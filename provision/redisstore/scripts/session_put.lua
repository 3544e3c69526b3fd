-- Records a session, if its device exists: a confirmed one in the place of what
-- there is, another only if there is none.
--
-- KEYS[4] d:<device>         ARGV[4] session (16 bytes) ‖ device (16 bytes)
-- KEYS[5] s:<device>         ARGV[5] hub (16 bytes), '' if the Envoy is not to find it
-- KEYS[6] h:<hub>:sessions   ARGV[6] record
-- KEYS[7] e:<envoy>          ARGV[7] 1 if it is confirmed, else ''
--                            ARGV[8] seconds to live, ARGV[9] prefix of s:<device>
-- Returns ok, how many sessions the device has on record, a space and the
-- device's record | gone.
local device = redis.call('GET', KEYS[4])
if not device then return {'gone'} end
local id = string.sub(ARGV[4], 1, 16)
if ARGV[7] ~= '' or redis.call('HEXISTS', KEYS[5], id) == 0 then
  -- The op tells this record from an equal one that was there before.
  redis.call('HSET', KEYS[5], id, ARGV[2] .. ARGV[6])
  redis.call('ZADD', KEYS[6], 0, ARGV[4])
  if ARGV[5] ~= '' then redis.call('SADD', KEYS[7], ARGV[4] .. ARGV[5]) end
  for i = 5, 7 do redis.call('EXPIRE', KEYS[i], ARGV[8]) end
end
-- A hub's index outlives records that expired, as long as others are put. Every
-- session that comes looks at two, so that they do not gather.
for _, member in ipairs(redis.call('ZRANDMEMBER', KEYS[6], 2)) do
  local hex = string.gsub(string.sub(member, 17), '.', function(c) return string.format('%02x', string.byte(c)) end)
  local uuid = string.gsub(hex, '^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)', '%1-%2-%3-%4-')
  if redis.call('HEXISTS', ARGV[9] .. uuid, string.sub(member, 1, 16)) == 0 then
    redis.call('ZREM', KEYS[6], member)
  end
end
return {'ok', redis.call('HLEN', KEYS[5]) .. ' ' .. device}
