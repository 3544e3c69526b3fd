-- Founds the store unless it exists. One server makes one store, however many
-- processes start at once.
--
-- KEYS[1] hg:{meta}:store
-- ARGV    store ID, partitions, schema
-- Returns ID, partitions, schema and whether every partition carries the ID.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'partitions', ARGV[2], 'schema', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'id', 'partitions', 'schema', 'ready')
