-- What every script on a partition begins with.
--
-- KEYS[1] p    partition state       ARGV[1] store ID
-- KEYS[2] out  events                ARGV[2] op: random, one per operation
-- KEYS[3] chg  changes               ARGV[3] events to keep
--
-- A script returns a word and perhaps a value. From here:
--   store  the partition is not the pinned store's: nothing was done
--   done   this very operation has run before, and its reply was lost
local part = redis.call('HMGET', KEYS[1], 'id', 'op', 'out', 'chg', 'link')
if part[1] ~= ARGV[1] then return {'store'} end
if part[2] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'op', ARGV[2]) -- for a WAIT on this connection to wait for
  return {'done'}
end

-- count adds n to the devices that an anchor ('' for none) admitted last.
local function count(key, anchor, n)
  if anchor ~= '' and redis.call('HINCRBY', key, anchor, n) == 0 then redis.call('HDEL', key, anchor) end
end

-- append appends an event (JSON) under the next number.
local out = tonumber(part[3] or '0')
local function append(event)
  out = out + 1
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], string.format('%.0f-0', out), 'e', event)
end

-- tell appends a change under the next number. It names the one before it, so
-- that a reader notices when history was lost and written anew under the same
-- numbers.
local chg, link = tonumber(part[4] or '0'), part[5] or ''
local function tell(change)
  chg = chg + 1
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', string.format('%.0f-0', chg), 'c', change, 'l', ARGV[2], 'p', link)
  link = ARGV[2]
end

-- finish ends a change: it appends the event ('' for none) and the change (''
-- for none) and notes how far it came, and the operation.
local function finish(event, change)
  local set = {'op', ARGV[2]}
  if event ~= '' then append(event) end
  if out > tonumber(part[3] or '0') then
    set[#set + 1] = 'out'
    set[#set + 1] = string.format('%.0f', out)
  end
  if change ~= '' then tell(change) end
  if chg > tonumber(part[4] or '0') then
    set[#set + 1] = 'chg'
    set[#set + 1] = string.format('%.0f', chg)
    set[#set + 1] = 'link'
    set[#set + 1] = link
  end
  redis.call('HSET', KEYS[1], unpack(set))
  return {'ok'}
end

