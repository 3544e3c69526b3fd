-- Appends events that are not part of a change.
--
-- ARGV[4…] events
-- Returns ok.
for i = 4, #ARGV do append(ARGV[i]) end
return finish('', '')
