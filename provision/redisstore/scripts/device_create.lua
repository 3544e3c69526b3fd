-- Creates a device, on its first connection or by hand.
--
-- KEYS[4] h:<hub>   ARGV[4] version of the hub that it was decided with
-- KEYS[5] d:<id>    ARGV[5] name
-- KEYS[6] names     ARGV[6] record
-- KEYS[7] seq       ARGV[7] event
-- KEYS[8] anchors   ARGV[8] its anchor, '' for none
-- KEYS[9] claims    ARGV[9] listed | once, if the name has to be claimed, else ''
--                   ARGV[10] devices that the hub may have, 0 for any number
--                   ARGV[11] creations that it may see in a second, 0 for any number
--                   ARGV[12] 1 to do nothing, and not look at the rate
-- Returns ok | exists, record | hub (gone, being deleted, or changed) | unclaimed,
-- used if it is on the list | quota, devices that there are | rate, microseconds until there is a token.
local hub = redis.call('HMGET', KEYS[4], 'v', 'x', 'full')
if hub[1] ~= ARGV[4] or hub[2] then return {'hub'} end
local record = redis.call('GET', KEYS[5])
if record then return {'exists', record} end
if ARGV[9] ~= '' then
  local used = redis.call('HGET', KEYS[9], ARGV[5])
  if not used then return {'unclaimed'} end
  if used == '1' and ARGV[9] == 'once' then return {'unclaimed', 'used'} end
end
if ARGV[10] ~= '0' then
  local devices = redis.call('ZCARD', KEYS[6])
  if devices >= tonumber(ARGV[10]) then return {'quota', string.format('%.0f', devices)} end
end
if ARGV[12] == '1' then return {'ok'} end
if ARGV[11] ~= '0' then
  -- A bucket that holds the tokens of a second, kept as one number: the time at
  -- which it will be full again. A token moves it on by the time that one takes
  -- to come. No bucket lacks more than all its tokens, whatever the clock does.
  local clock = redis.call('TIME')
  local now, tokens = clock[1] * 1000000 + clock[2], tonumber(ARGV[11])
  local each = math.ceil(1000000 / tokens)
  local full = math.min(math.max(tonumber(hub[3] or '0'), now), now + tokens * each)
  local wait = full + each - now - tokens * each
  if wait > 0 then return {'rate', string.format('%.0f', wait)} end
  redis.call('HSET', KEYS[4], 'full', string.format('%.0f', full + each))
end
if ARGV[9] ~= '' then redis.call('HSET', KEYS[9], ARGV[5], '1') end
redis.call('SET', KEYS[5], ARGV[6])
redis.call('ZADD', KEYS[6], 0, ARGV[5])
redis.call('ZADD', KEYS[7], redis.call('HINCRBY', KEYS[4], 'n', 1), ARGV[5])
count(KEYS[8], ARGV[8], 1)
return finish(ARGV[7], '')
