-- Sets, replaces or deletes a token whose record is still the one that was
-- looked at.
--
-- KEYS    store, tokens
-- ARGV    store ID, name, record as it was ('' none), record to be ('' none),
--         the most tokens, 1 if there must never have been one
-- Returns ok, store (not ours), conflict, or full.
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'store'} end
local is = redis.call('HGET', KEYS[2], ARGV[2]) or ''
if is == ARGV[4] then return {'ok'} end -- sent twice
if is ~= ARGV[3] then return {'conflict'} end
if ARGV[6] == '1' and redis.call('EXISTS', KEYS[2]) == 1 then return {'conflict'} end
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[2], ARGV[2])
  return {'ok'}
end
if is == '' and redis.call('HLEN', KEYS[2]) > tonumber(ARGV[5]) then return {'full'} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4], '', '1')
return {'ok'}
