-- Comes before session_put, and lets it go on only if all other sessions that the
-- device has on record are some that were seen before and do not count.
--
-- ARGV[10…] for each of those: session (16 bytes), what s:<device> had under it
-- Returns taken.
local passed = {}
for i = 10, #ARGV, 2 do passed[ARGV[i]] = ARGV[i + 1] end
local recorded = redis.call('HGETALL', KEYS[5])
for i = 1, #recorded, 2 do
  if recorded[i] ~= string.sub(ARGV[4], 1, 16) and passed[recorded[i]] ~= recorded[i + 1] then return {'taken'} end
end

