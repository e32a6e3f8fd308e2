-- One step of gathering what an audience's members are in: their users or their groups.
-- KEYS: the audience's set, the registration's connections. ARGV: 'user' or 'groups', then either nothing, to take all
-- members, or a cursor and how many members to look at.
-- Returns the next cursor, '0' at the end, and the names, each once.
local next, members = '0', nil
if #ARGV == 1 then
  members = redis.call('SMEMBERS', KEYS[1])
else
  local step = redis.call('SSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
  next, members = step[1], step[2]
end
local seen, names = {}, {}
local function add(name)
  if not seen[name] then
    seen[name] = true
    names[#names + 1] = name
  end
end
for _, counter in ipairs(members) do
  local details = redis.call('HGET', KEYS[2], counter)
  local held = details and cjson.decode(details)[ARGV[1]]
  if type(held) == 'string' then
    add(held)
  elseif type(held) == 'table' then
    for _, name in ipairs(held) do add(name) end
  end
end
return {next, names}
