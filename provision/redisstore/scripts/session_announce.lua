-- Tells of a device's sessions in the change feed.
--
-- ARGV[4] change
-- Returns ok.
return finish('', ARGV[4])
