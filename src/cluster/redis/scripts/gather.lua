-- One step of gathering what an audience's members are in: their users or their groups.
-- KEYS: the audience's set, the registration's connections. ARGV: 'user' or 'groups', how many bytes of details are enough
-- for one step, then nothing, to look at all members; or a cursor and how many of them to look at; or 'these' and members.
-- Returns the next cursor, '0' at the end, the names, each once, and the members that were not looked at because it was enough.
local next, members, first = '0', nil, 1
if #ARGV == 2 then
  members = redis.call('SMEMBERS', KEYS[1])
elseif ARGV[3] == 'these' then
  members, first = ARGV, 4
else
  local step = redis.call('SSCAN', KEYS[1], ARGV[3], 'COUNT', ARGV[4])
  next, members = step[1], step[2]
end
local seen, names, left = {}, {}, {}
local function add(name)
  if not seen[name] then
    seen[name] = true
    names[#names + 1] = name
  end
end
local enough = tonumber(ARGV[2])
for at = first, #members do
  if enough <= 0 then
    left[#left + 1] = members[at]
  else
    local details = redis.call('HGET', KEYS[2], members[at])
    local held = nil
    if details then
      enough = enough - #details
      held = cjson.decode(details)[ARGV[1]]
    end
    if type(held) == 'string' then
      add(held)
    elseif type(held) == 'table' then
      for _, name in ipairs(held) do add(name) end
    end
  end
end
return {next, names, left}
