-- Removes sessions that were found dead, unless they were put again since.
--
-- For each:
-- KEYS[4…] s:<device>, h:<hub>:sessions, e:<envoy>
-- ARGV[4…] session (16 bytes) ‖ device (16 bytes) ‖ hub (16 bytes), and what
--          s:<device> had under the session, '' for nothing
-- Returns ok.
for i = 0, (#KEYS - 3) / 3 - 1 do
  local k, member, seen = 4 + 3 * i, ARGV[4 + 2 * i], ARGV[5 + 2 * i]
  local id = string.sub(member, 1, 16)
  if (redis.call('HGET', KEYS[k], id) or '') == seen then
    redis.call('HDEL', KEYS[k], id)
    redis.call('ZREM', KEYS[k + 1], string.sub(member, 1, 32))
    redis.call('SREM', KEYS[k + 2], member)
  end
end
return {'ok'}
