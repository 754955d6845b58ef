"""The Lua scripts, each one atomic step on the server.

The last key of each script is ``epoch``. A script does nothing if it names another layout.
"""

from __future__ import annotations

from ...backend import Moment
from .connections import Script
from .lua import script

ALL = -1
"""The last byte of a record."""
WEEK = 7 * 24 * 3600.0
FOREVER = 10 * 365 * 24 * 3600.0


def renewal(at: Moment) -> tuple[float, float, float, int]:
    """Return the arguments with which a script renews a record."""
    return at.now, at.ttl, at.touch_interval, keep(at)


def keep(at: Moment) -> int:
    """Return the milliseconds after which the server may drop an unused record: long after the session has expired."""
    return int(min(2 * at.ttl + WEEK, FOREVER) * 1000)


LOAD = script("""
-- keys: record; arguments: last byte, now, ttl, touch_interval, keep
local data, demoted = load(KEYS[1], unpack(ARGV))
return {data, epoch, demoted}
""")

PEEK = script("""
-- keys: record; arguments: last byte
return bytes_of(KEYS[1], ARGV[1])
""")

READ = script("""
-- A record, and a hash beside it.
-- keys: record; arguments: last byte, the hash's flag, then now, ttl, touch_interval, keep if the record is renewed
local data, demoted = bytes_of(KEYS[1], ARGV[1]), 0
if ARGV[3] then data, demoted = load(KEYS[1], ARGV[1], unpack(ARGV, 3)) end
local active, uid, flags
if data then active, uid, flags = parse(data) end
if not active or bit.band(flags, ARGV[2]) == 0 then return {data, epoch, demoted, {}} end
local large, attached = beside(uid)
local fields = on_hash('HGETALL', ARGV[2] == '1' and large or attached)
return {data, epoch, demoted, fields == '?' and {'?', '?'} or fields}
""")

FETCH = script("""
-- A namespace that is kept apart, or the record, or nil if the life has ended.
-- keys: record, large; arguments: uid, name
local active, uid = head_of(KEYS[1])
if active and uid ~= ARGV[1] or active == nil then return false end
local data = on_hash('HGET', KEYS[2], ARGV[2])
return data and {data} or {false, bytes_of(KEYS[1], -1)}
""")

LOOK = script("""
-- keys: record, gone, rotated, lost; arguments: last byte, now, ttl, touch_interval, keep, sid
local data, demoted = load(KEYS[1], unpack(ARGV, 1, 5))
if data then return {data, epoch, demoted} end
local places = {expired = {'ZSCORE', KEYS[2], ARGV[6]}, rotated = {'GET', KEYS[3]}, lost = {'GET', KEYS[4]}}
for _, trace in ipairs({'expired', 'rotated', 'lost'}) do
  local since = redis.call(unpack(places[trace]))
  if since then return {false, epoch, demoted, trace, since} end
end
return {false, epoch, demoted}
""")

CLAIM = script("""
-- keys: record, claim, queue, sign of life, wake
-- arguments: last byte, now, ttl, touch_interval, keep, token, lease, how long the sign lasts,
-- 1 if the process waits already, 1 if it is woken even if it need not wait
if not redis.call('SET', KEYS[2], ARGV[6], 'NX', 'PX', ARGV[7]) and redis.call('GET', KEYS[2]) ~= ARGV[6] then
  redis.call('SET', KEYS[4], '', 'PX', ARGV[8])
  if ARGV[9] == '0' or not redis.call('LPOS', KEYS[3], ARGV[6]) then redis.call('RPUSH', KEYS[3], ARGV[6]) end
  redis.call('PEXPIRE', KEYS[3], 600000)
  return redis.call('PTTL', KEYS[2])
end
if ARGV[9] == '1' then
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
  redis.call('LREM', KEYS[3], 0, ARGV[6])
  redis.call('DEL', KEYS[4])
end
if ARGV[10] == '1' then
  redis.call('RPUSH', KEYS[5], '')
  redis.call('PEXPIRE', KEYS[5], ARGV[7])
end
return {load(KEYS[1], unpack(ARGV, 1, 5)), epoch}
""")

RELEASE = script("""
-- keys: record, claim, queue, wake, sign of life
-- arguments: token, lease, prefix of the wake keys, then now, ttl, touch_interval, keep if a use is to be recorded
redis.call('DEL', KEYS[4], KEYS[5])
if ARGV[4] then load(KEYS[1], 276, unpack(ARGV, 4)) end
if redis.call('GET', KEYS[2]) == ARGV[1] then
  pass_on(KEYS[2], KEYS[3], ARGV[3], ARGV[2], bytes_of(KEYS[1], -1))
else
  redis.call('LREM', KEYS[3], 0, ARGV[1])
end
""")

UNCLAIM = Script("""
-- Gives up a claim, whatever the layout of the keys: it was taken before the layout was known.
-- keys: claim; arguments: token
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
""")

RENEW_CLAIM = script("""
-- keys: claim; arguments: token, lease
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
""")

CREATE = script("""
-- keys: record, claim, queue, gone, bucket, buckets, count, large
-- arguments: token, last, lease, prefix of the wake keys, uid, sid, keep, limit, a new epoch, bucket, record,
-- then name and data of each namespace that is kept apart
if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end
local old = bytes_of(KEYS[1], -1)
if old then return {old, epoch} end
if ARGV[8] ~= '' and tonumber(redis.call('GET', KEYS[7]) or 0) >= tonumber(ARGV[8]) then return 'full' end
redis.call('SET', KEYS[1], ARGV[11], 'PX', ARGV[7])
if ARGV[12] then
  redis.call('HSET', KEYS[8], unpack(ARGV, 12))
  redis.call('PEXPIRE', KEYS[8], ARGV[7])
end
redis.call('INCRBY', KEYS[7], redis.call('HSET', shard_of(ARGV[5]), ARGV[5], ARGV[6]))
redis.call('RPUSH', KEYS[5], ARGV[5])
redis.call('ZADD', KEYS[6], ARGV[10], ARGV[10])
redis.call('ZREM', KEYS[4], ARGV[6])
if not epoch then redis.call('SET', KEYS[#KEYS], ARGV[9]) end
if ARGV[2] == '1' then pass_on(KEYS[2], KEYS[3], ARGV[4], ARGV[3], ARGV[11]) end
return {false, epoch or ARGV[9]}
""")

WRITE = script("""
-- Writes a record that has not changed since it was read, and returns its flags. If it has, returns it as it is now.
-- keys: record, claim, queue
-- arguments: the record without flags, keep, beginning and revision of the one that was read, token,
-- lease if the claim is passed on, then if namespaces are kept apart or no longer kept apart: number of the latter,
-- their names, then name and data of each of the former
if ARGV[4] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[4] then return 'lost' end
local head = bytes_of(KEYS[1], 276)
if not head then return 'gone' end
local data = ARGV[1]
local first = 22 + string.byte(data, 22)
local own = string.sub(data, 22, first)
if string.sub(head, 22, first) ~= own or string.sub(head, 9, 20) ~= ARGV[3] then
  local active, uid = parse(head)
  if not active then return 'damaged' end
  if uid ~= string.sub(own, 2) then return 'gone' end
  return {redis.call('GET', KEYS[1])}
end
local flags = string.byte(head, 21)
if ARGV[6] then
  local large, apart = key_of('l:' .. string.sub(own, 2)), 7 + ARGV[6]
  if apart > 7 and on_hash('HDEL', large, unpack(ARGV, 7, apart - 1)) == '?' then return 'damaged' end
  if ARGV[apart] then
    if on_hash('HSET', large, unpack(ARGV, apart)) == '?' then return 'damaged' end
    flags = bit.bor(flags, 1)
  end
end
if flags > 0 then data = string.sub(data, 1, 20) .. string.char(flags) .. string.sub(data, 22) end
redis.call('SET', KEYS[1], data, 'PX', ARGV[2])
if flags > 0 then keep_for(KEYS[1], string.sub(own, 2), flags, ARGV[2]) end
if ARGV[5] ~= '' then pass_on(KEYS[2], KEYS[3], key_of('w:'), ARGV[5], data) end
return flags
""")

ATTACH = script("""
-- keys: record, attached; arguments: uid, now, keep, name, version or '' for the first, data
local active, uid, flags = head_of(KEYS[1])
if active == false then return 'damaged' end
if uid ~= ARGV[1] then return 'gone' end
local old = on_hash('HGET', KEYS[2], ARGV[4]) or ''
if old == '?' then return 'damaged' end
if string.sub(old, 1, 4) ~= ARGV[5] then return 'conflict' end
redis.call('HSET', KEYS[2], ARGV[4], ARGV[6])
redis.call('SETRANGE', KEYS[1], 20, string.char(bit.bor(flags, 2)))
renew(KEYS[1], uid, 2, ARGV[2], ARGV[3])
return 'ok'
""")

TOUCH = script("""
-- keys: record; arguments: uid, now, touch_interval, keep
local active, uid, flags = head_of(KEYS[1])
if not active or uid ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) - active > tonumber(ARGV[3]) then renew(KEYS[1], uid, flags, ARGV[2], ARGV[4]) end
return 1
""")

REMOVE = script("""
-- keys: record; arguments: uid or '' for a record whose uid cannot be read, the uid that its shard has
local active, uid = head_of(KEYS[1])
if active == nil or (uid or '') ~= ARGV[1] then return 0 end
drop(KEYS[1], ARGV[2])
return 1
""")

RENAME = script("""
-- keys: record, new record, rotated
-- arguments: uid, new sid, now, keep, milliseconds for which the old id is remembered
local active, uid, flags = head_of(KEYS[1])
if not active or uid ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
renew(KEYS[2], uid, flags, ARGV[3], ARGV[4])
redis.call('HSET', shard_of(uid), uid, ARGV[2])
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[5])
return 1
""")

FIND = script("""
-- keys: none; arguments: prefix of the record keys, uid
return sid_of(ARGV[1], ARGV[2])
""")

LIVING = script("""
-- The uids for which ``FIND`` returns an id.
-- keys: none; arguments: prefix of the record keys, uids
local living = {}
for number = 2, #ARGV do
  if sid_of(ARGV[1], ARGV[number]) then living[#living + 1] = ARGV[number] end
end
return living
""")

DUE = script("""
-- Looks at the first uids of a bucket. Those of due lives stay in it, at its end, until they are expired. Those of
-- damaged records stay too, and the ids of these are returned separately.
-- keys: bucket, buckets
-- arguments: bucket, now, ttl, how many, seconds of a bucket, prefix of the record keys, prefix of the bucket keys
local found, damaged, stay = {}, {}, {}
local uids = redis.call('LRANGE', KEYS[1], 0, ARGV[4] - 1)
for _, uid in ipairs(uids) do
  local sid = redis.call('HGET', shard_of(uid), uid)
  local active, own
  if sid then active, own = head_of(ARGV[6] .. sid) end
  if active == false then
    damaged[#damaged + 1] = sid
    stay[#stay + 1] = uid
  elseif own ~= uid then
    forget(uid)
  elseif tonumber(ARGV[2]) - active > tonumber(ARGV[3]) then
    found[#found + 1] = sid
    found[#found + 1] = uid
    stay[#stay + 1] = uid
  else
    local current = string.format('%.0f', math.max(0, math.floor(active / ARGV[5]) * ARGV[5]))
    redis.call('RPUSH', ARGV[7] .. current, uid)
    redis.call('ZADD', KEYS[2], current, current)
  end
end
if #stay > 0 then redis.call('RPUSH', KEYS[1], unpack(stay)) end
redis.call('LTRIM', KEYS[1], #uids, -1)
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
return {found, damaged}
""")

EXPIRE = script("""
-- keys: gone, ended, then record, claim and hold of each life
-- arguments: now, ttl, keep, token, then sid and uid of each life
local kept, now_ms = {}, server_time()
for i = 5, #ARGV, 2 do
  local number = (i - 5) / 2
  local place = 3 + number * 3
  local record, claim = KEYS[place], redis.call('GET', KEYS[place + 1])
  local active, uid, flags = head_of(record)
  if active and uid == ARGV[i + 1] then
    if tonumber(ARGV[1]) - active <= tonumber(ARGV[2]) then
      kept[#kept + 1] = number
    elseif (claim and claim ~= ARGV[4]) or is_held(KEYS[place + 2], now_ms) then
      renew(record, uid, flags, ARGV[1], ARGV[3])
      kept[#kept + 1] = number
    else
      redis.call('ZADD', KEYS[1], ARGV[1], ARGV[i])
      redis.call('ZADD', KEYS[2], 0, ARGV[i] .. ' ' .. uid)
      drop(record, uid)
    end
  end
end
return kept
""")

ENDED = script("""
-- keys: ended; arguments: how many, lease
local now = server_time()
local lives = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, life in ipairs(lives) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), life)
end
return lives
""")

RENEW_ENDED = script("""
-- keys: ended; arguments: lease, then the lives
local untill = string.format('%.0f', server_time() + ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', untill, ARGV[i]) end
""")

HOLD = script("""
-- keys: hold; arguments: owner, lease
redis.call('ZADD', KEYS[1], string.format('%.0f', server_time() + ARGV[2]), ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
""")

HELD = script("""
-- keys: hold
return is_held(KEYS[1], server_time()) and 1 or 0
""")

EXPIRED_AT = script("""
-- keys: record, gone, lost; arguments: sid
local at = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not at and redis.call('EXISTS', KEYS[1]) == 0 then at = redis.call('GET', KEYS[3]) end
return {at, epoch}
""")

PRUNE = script("""
-- keys: gone, lost; arguments: before
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1])
local lost = redis.call('GET', KEYS[2])
if lost and tonumber(lost) < tonumber(ARGV[1]) then redis.call('DEL', KEYS[2]) end
""")

NOTE_LOSS = script("""
-- All records were lost if the epoch is not the one that the caller knew when it asked. The epoch in the answer
-- may be out of date by now.
-- keys: lost, noted; arguments: a new epoch, now, the epoch that the caller knew
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[#KEYS], epoch)
end
if epoch ~= ARGV[3] and redis.call('GET', KEYS[2]) ~= epoch then
  redis.call('SET', KEYS[2], epoch)
  redis.call('SET', KEYS[1], ARGV[2])
end
return epoch
""")

CALL = script("""
-- keys: key; arguments: a command, then what follows the key
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
""")

RECORDS = script("""
-- The records of some shards: uid, id, first bytes and number of bytes of each.
-- keys: none; arguments: first shard, last shard, prefix of the record keys, last byte
local found = {}
for shard = ARGV[1], ARGV[2] do
  local lives = redis.call('HGETALL', key_of('u:' .. shard))
  for i = 1, #lives, 2 do
    local key = ARGV[3] .. lives[i + 1]
    local active, uid = head_of(key)
    if active == false or uid == lives[i] then
      local size = redis.pcall('STRLEN', key)
      if type(size) == 'table' then size = 1 end
      found[#found + 1] = {lives[i], lives[i + 1], bytes_of(key, ARGV[4]), size}
    end
  end
end
return found
""")
