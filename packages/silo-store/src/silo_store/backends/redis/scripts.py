"""The Lua scripts, each one atomic step on the server, and the keys that they use.

All keys of one prefix have the same hash tag, so a cluster keeps them on one node and each script may use them all.

================ ======= ===========================================================================
key              type    holds
================ ======= ===========================================================================
``s:<sid>``      string  a record: ``HEAD``, the uid, then the namespaces as ``packing.pack`` returns them
``due:<bucket>`` list    ids of records by the bucket of their last known use, see ``BUCKET``
``due``          zset    the existing buckets
``gone``         zset    expired ids, and when each expired
``ended``        zset    ``sid uid`` of lives whose callbacks have not run, and until when they are claimed
``t:<sid>``      string  token of the claim on a session
``q:<sid>``      list    tokens of the processes that wait for it
``w:<token>``    list    the record, with which a waiting process is woken
``w:<token>:on`` string  sign of life of a waiting process; expires unless repeated
``h:<uid>``      zset    owners that hold a life, and until when
``m:<uid>``      string  the id to which a life was renamed
``r:<sid>``      string  when a life was renamed from this id
``living``       set     the ids of records, to count them; ``DUE`` removes ids whose records the server dropped
``epoch``        string  names the server's set of records: another one, or none, after all records were lost
``lost``         string  when the loss was noticed
``noted``        string  the epoch in which the loss was noticed
================ ======= ===========================================================================

A record's key has a time-to-live of its own, far longer than the session's. If no process sweeps any longer, the server
cleans up.
"""

from __future__ import annotations

import struct

from .connections import Script

HEAD = struct.Struct(">ddIB")
"""Last use, beginning, bucket, length of the uid."""

BUCKET = 8
"""Seconds of last use that share a bucket. A record moves to its current bucket when its old one comes up, not when it
is used. So using a session changes only its record, and each is looked at about once per time-to-live."""


class Keys:
    """The names of the keys of one prefix."""

    def __init__(self, prefix: str) -> None:
        self.base = base = f"{{{prefix}}}:"
        self.record = base + "s:"
        self.claim = base + "t:"
        self.queue = base + "q:"
        self.wake = base + "w:"
        self.hold = base + "h:"
        self.moved = base + "m:"
        self.rotated = base + "r:"
        self.bucket = base + "due:"
        self.buckets = base + "due"
        self.gone = base + "gone"
        self.ended = base + "ended"
        self.living = base + "living"
        self.epoch = base + "epoch"
        self.lost = base + "lost"
        self.noted = base + "noted"


_LIBRARY = """
-- A record's bytes. If its key holds another type, bytes that cannot be a record.
local function bytes_of(key)
  local data = redis.pcall('GET', key)
  if type(data) == 'table' or data == '' then return '?' end
  return data
end

-- The head of a record: last use, beginning, bucket, uid, and the position of its namespaces. False if it is damaged.
local function parse(data)
  if #data < 21 or #data < 21 + string.byte(data, 21) then return false end
  local active, created, bucket, uid, place = struct.unpack('>ddI4Bc0', data)
  if not (math.abs(active) < 4294967296 and math.abs(created) < 4294967296 and string.find(uid, '^[!-~]+$')) then
    return false
  end
  return active, created, bucket, uid, place
end

-- The same, reading only the head of a record. Nil if there is no record.
local function head_of(key)
  local head = redis.pcall('GETRANGE', key, 0, 275)
  if head == '' and redis.call('EXISTS', key) == 0 then return nil end
  if type(head) == 'table' then return false end
  return parse(head)
end

local function uid_of(key)
  local _, _, _, uid = head_of(key)
  return uid
end

local function renew(key, now, keep)
  redis.call('SETRANGE', key, 0, struct.pack('>d', tonumber(now)))
  redis.call('PEXPIRE', key, keep)
end

-- A record, renewed if its use must be recorded, and 1 if the server is a replica and could not do that. A server that
-- cannot write can still read.
local function load(key, now, ttl, touch_interval, keep)
  local data, demoted = bytes_of(key), 0
  local active = data and parse(data)
  if active then
    local since = tonumber(now) - active
    if since > tonumber(touch_interval) and since <= tonumber(ttl) then
      local failed = redis.pcall('SETRANGE', key, 0, struct.pack('>d', tonumber(now)))
      if type(failed) ~= 'table' then
        redis.call('PEXPIRE', key, keep)
      elseif string.find(failed.err, 'READONLY', 1, true) then
        demoted = 1
      end
    end
  end
  return data, demoted
end

-- Gives the claim and the record to the process that has waited longest, of those that give signs of life.
local function pass_on(claim, queue, wake, lease, data)
  local following = redis.call('LPOP', queue)
  while following and redis.call('DEL', wake .. following .. ':on') == 0 do
    following = redis.call('LPOP', queue)
  end
  if following then
    redis.call('SET', claim, following, 'PX', lease)
    redis.call('RPUSH', wake .. following, data or '')
    redis.call('PEXPIRE', wake .. following, lease)
  else
    redis.call('DEL', claim)
  end
end

local function server_time()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function is_held(key, now_ms)
  return #redis.call('ZRANGEBYSCORE', key, '(' .. string.format('%.0f', now_ms), '+inf', 'LIMIT', 0, 1) > 0
end
"""


def _script(body: str) -> Script:
    return Script(_LIBRARY + body)


LOAD = _script("""
-- keys: record, epoch; arguments: now, ttl, touch_interval, keep
local data, demoted = load(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return {data, redis.call('GET', KEYS[2]), demoted}
""")

PEEK = _script("""
-- keys: record
return bytes_of(KEYS[1])
""")

LOOK = _script("""
-- keys: record, epoch, gone, rotated, lost; arguments: now, ttl, touch_interval, keep, sid
local data, demoted = load(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
local epoch = redis.call('GET', KEYS[2])
if data then return {data, epoch, demoted} end
local places = {expired = {'ZSCORE', KEYS[3], ARGV[5]}, rotated = {'GET', KEYS[4]}, lost = {'GET', KEYS[5]}}
for _, trace in ipairs({'expired', 'rotated', 'lost'}) do
  local since = redis.call(unpack(places[trace]))
  if since then return {false, epoch, demoted, trace, since} end
end
return {false, epoch, demoted}
""")

PART = _script("""
-- A record without some of its namespaces. Only the heads of the omitted ones are read.
-- keys: record; arguments: prefix of the names to return, size up to which the whole record is returned
local active, _, _, _, place = head_of(KEYS[1])
if not active then return bytes_of(KEYS[1]) end
local size = redis.call('STRLEN', KEYS[1])
if size <= tonumber(ARGV[2]) then return redis.call('GET', KEYS[1]) end
local parts = {redis.call('GETRANGE', KEYS[1], 0, place - 2)}
while place <= size do
  local head = redis.call('GETRANGE', KEYS[1], place - 1, place + 8 + #ARGV[1])
  if #head < 10 then return '?' end
  local length, _, bytes = struct.unpack('>I2I4I4', head)
  local following = place + 10 + length + bytes
  if following > size + 1 then return '?' end
  if length >= #ARGV[1] and string.sub(head, 11) == ARGV[1] then
    parts[#parts + 1] = redis.call('GETRANGE', KEYS[1], place - 1, following - 2)
  end
  place = following
end
return table.concat(parts)
""")

CLAIM = _script("""
-- keys: record, epoch, claim, queue, sign of life
-- arguments: now, ttl, touch_interval, keep, token, lease, how long the sign lasts, 1 if the process waits already
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[5] then
  redis.call('SET', KEYS[5], '', 'PX', ARGV[7])
  if ARGV[8] == '0' or not redis.call('LPOS', KEYS[4], ARGV[5]) then redis.call('RPUSH', KEYS[4], ARGV[5]) end
  redis.call('PEXPIRE', KEYS[4], 600000)
  return redis.call('PTTL', KEYS[3])
end
redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
if ARGV[8] == '1' then
  redis.call('LREM', KEYS[4], 0, ARGV[5])
  redis.call('DEL', KEYS[5])
end
return {load(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]), redis.call('GET', KEYS[2])}
""")

RELEASE = _script("""
-- keys: record, claim, queue, wake, sign of life; arguments: token, lease, prefix of the wake keys
redis.call('DEL', KEYS[4], KEYS[5])
if redis.call('GET', KEYS[2]) == ARGV[1] then
  pass_on(KEYS[2], KEYS[3], ARGV[3], ARGV[2], bytes_of(KEYS[1]))
else
  redis.call('LREM', KEYS[3], 0, ARGV[1])
end
""")

RENEW_CLAIM = _script("""
-- keys: claim; arguments: token, lease
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
""")

CREATE = _script("""
-- keys: record, epoch, claim, queue, gone, bucket, buckets, living
-- arguments: sid, keep, token, last, lease, prefix of the wake keys, record, bucket, a new epoch, limit
if ARGV[3] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[3] then return 'lost' end
local old = bytes_of(KEYS[1])
if old then return {old, redis.call('GET', KEYS[2])} end
if ARGV[10] ~= '' and redis.call('SCARD', KEYS[8]) >= tonumber(ARGV[10]) then return 'full' end
redis.call('SET', KEYS[1], ARGV[7], 'PX', ARGV[2])
redis.call('RPUSH', KEYS[6], ARGV[1])
redis.call('ZADD', KEYS[7], ARGV[8], ARGV[8])
redis.call('SADD', KEYS[8], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('SET', KEYS[2], ARGV[9], 'NX')
if ARGV[4] == '1' then pass_on(KEYS[3], KEYS[4], ARGV[6], ARGV[5], ARGV[7]) end
return {false, redis.call('GET', KEYS[2])}
""")

WRITE = _script("""
-- keys: record, claim, queue
-- arguments: uid, now, keep, token, last, lease, prefix of the wake keys, then name, version and data of each change
if ARGV[4] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[4] then return 'lost' end
local data = bytes_of(KEYS[1])
if not data then return 'gone' end
local active, created, bucket, uid, place = parse(data)
if not active then return 'damaged' end
if uid ~= ARGV[1] then return 'gone' end
local changes = {}
for i = 8, #ARGV, 3 do changes[ARGV[i]] = i end
local parts = {struct.pack('>ddI4Bc0', tonumber(ARGV[2]), created, bucket, #uid, uid)}
while place <= #data do
  if #data < place + 9 then return 'damaged' end
  local length, version, size, start = struct.unpack('>I2I4I4', data, place)
  local name = string.sub(data, start, start + length - 1)
  local following = start + length + size
  if following > #data + 1 then return 'damaged' end
  local i = changes[name]
  if i then
    if tonumber(ARGV[i + 1]) ~= version then return 'conflict' end
    parts[#parts + 1] = struct.pack('>I2I4I4', length, version + 1, #ARGV[i + 2]) .. name .. ARGV[i + 2]
    changes[name] = nil
  else
    parts[#parts + 1] = string.sub(data, place, following - 1)
  end
  place = following
end
for i = 8, #ARGV, 3 do
  local name = ARGV[i]
  if changes[name] then
    if ARGV[i + 1] ~= '0' then return 'conflict' end
    parts[#parts + 1] = struct.pack('>I2I4I4', #name, 1, #ARGV[i + 2]) .. name .. ARGV[i + 2]
  end
end
data = table.concat(parts)
redis.call('SET', KEYS[1], data, 'PX', ARGV[3])
if ARGV[5] == '1' then pass_on(KEYS[2], KEYS[3], ARGV[7], ARGV[6], data) end
return 'ok'
""")

TOUCH = _script("""
-- keys: record; arguments: uid, now, keep
if uid_of(KEYS[1]) ~= ARGV[1] then return 0 end
renew(KEYS[1], ARGV[2], ARGV[3])
return 1
""")

REMOVE = _script("""
-- keys: record, moved, living; arguments: uid or '' for a record whose uid cannot be read, sid
local active, _, _, uid = head_of(KEYS[1])
if active == nil or (uid or '') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SREM', KEYS[3], ARGV[2])
return 1
""")

RENAME = _script("""
-- keys: record, new record, moved, bucket, buckets, rotated, living
-- arguments: uid, new sid, bucket, now, milliseconds for which the old id is remembered, sid
if uid_of(KEYS[1]) ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('SET', KEYS[3], ARGV[2])
redis.call('PEXPIRE', KEYS[3], redis.call('PTTL', KEYS[1]))
redis.call('RPUSH', KEYS[4], ARGV[2])
redis.call('ZADD', KEYS[5], ARGV[3], ARGV[3])
redis.call('SETRANGE', KEYS[1], 16, struct.pack('>I4', tonumber(ARGV[3])))
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('SET', KEYS[6], ARGV[4], 'PX', ARGV[5])
redis.call('SREM', KEYS[7], ARGV[6])
redis.call('SADD', KEYS[7], ARGV[2])
return 1
""")

DUE = _script("""
-- Looks at the first ids of a bucket. Due ids stay in it, at its end, until they are expired. Ids of damaged records
-- stay too, and are returned separately.
-- keys: bucket, buckets, living
-- arguments: bucket, now, ttl, how many, seconds of a bucket, prefix of the record keys, prefix of the bucket keys
local found, damaged, stay, move = {}, {}, {}, {}
local sids = redis.call('LRANGE', KEYS[1], 0, ARGV[4] - 1)
for _, sid in ipairs(sids) do
  local active, _, bucket, uid = head_of(ARGV[6] .. sid)
  if active == false then
    damaged[#damaged + 1] = sid
    stay[#stay + 1] = sid
  elseif active then
    if bucket == tonumber(ARGV[1]) then
      if tonumber(ARGV[2]) - active > tonumber(ARGV[3]) then
        found[#found + 1] = sid
        found[#found + 1] = uid
      end
      local own = math.floor(active / ARGV[5]) * ARGV[5]
      if own > bucket and tonumber(ARGV[2]) - active <= tonumber(ARGV[3]) then
        move[#move + 1] = {sid, own}
      else
        stay[#stay + 1] = sid
      end
    end
  else
    redis.call('SREM', KEYS[3], sid)
  end
end
if #stay > 0 then redis.call('RPUSH', KEYS[1], unpack(stay)) end
for _, each in ipairs(move) do
  local own = string.format('%.0f', each[2])
  redis.call('RPUSH', ARGV[7] .. own, each[1])
  redis.call('ZADD', KEYS[2], own, own)
  redis.call('SETRANGE', ARGV[6] .. each[1], 16, struct.pack('>I4', each[2]))
end
redis.call('LTRIM', KEYS[1], #sids, -1)
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
return {found, damaged}
""")

EXPIRE = _script("""
-- keys: gone, ended, living, then record, claim, hold and moved of each life
-- arguments: now, ttl, keep, token, then sid and uid of each life
local kept, now_ms = {}, server_time()
for i = 5, #ARGV, 2 do
  local number = (i - 5) / 2
  local place = 4 + number * 4
  local record, claim = KEYS[place], redis.call('GET', KEYS[place + 1])
  local active, _, _, uid = head_of(record)
  if active and uid == ARGV[i + 1] then
    if tonumber(ARGV[1]) - active <= tonumber(ARGV[2]) then
      kept[#kept + 1] = number
    elseif (claim and claim ~= ARGV[4]) or is_held(KEYS[place + 2], now_ms) then
      renew(record, ARGV[1], ARGV[3])
      kept[#kept + 1] = number
    else
      redis.call('ZADD', KEYS[1], ARGV[1], ARGV[i])
      redis.call('ZADD', KEYS[2], 0, ARGV[i] .. ' ' .. ARGV[i + 1])
      redis.call('DEL', record, KEYS[place + 3])
      redis.call('SREM', KEYS[3], ARGV[i])
    end
  end
end
return kept
""")

ENDED = _script("""
-- keys: ended; arguments: how many, lease
local now = server_time()
local lives = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, life in ipairs(lives) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), life)
end
return lives
""")

RENEW_ENDED = _script("""
-- keys: ended; arguments: lease, then the lives
local untill = string.format('%.0f', server_time() + ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', untill, ARGV[i]) end
""")

HOLD = _script("""
-- keys: hold; arguments: owner, lease
redis.call('ZADD', KEYS[1], string.format('%.0f', server_time() + ARGV[2]), ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
""")

HELD = _script("""
-- keys: hold
return is_held(KEYS[1], server_time()) and 1 or 0
""")

EXPIRED_AT = _script("""
-- keys: record, gone, lost, epoch; arguments: sid
local at = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not at and redis.call('EXISTS', KEYS[1]) == 0 then at = redis.call('GET', KEYS[3]) end
return {at, redis.call('GET', KEYS[4])}
""")

PRUNE = _script("""
-- keys: gone, lost; arguments: before
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1])
local lost = redis.call('GET', KEYS[2])
if lost and tonumber(lost) < tonumber(ARGV[1]) then redis.call('DEL', KEYS[2]) end
""")

NOTE_LOSS = _script("""
-- All records were lost if the epoch is not the one that the caller knew when it asked. The epoch in the answer
-- may be out of date by now.
-- keys: epoch, lost, noted; arguments: a new epoch, now, the epoch that the caller knew
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local epoch = redis.call('GET', KEYS[1])
if epoch ~= ARGV[3] and redis.call('GET', KEYS[3]) ~= epoch then
  redis.call('SET', KEYS[3], epoch)
  redis.call('SET', KEYS[2], ARGV[2])
end
return epoch
""")

RECORDED = _script("""
-- The ids and uids of records; '' for the uid of a damaged one.
-- keys: buckets; arguments: prefix of the record keys, ids
local found = {}
for i = 2, #ARGV do
  local active, _, _, uid = head_of(ARGV[1] .. ARGV[i])
  if active ~= nil then
    found[#found + 1] = ARGV[i]
    found[#found + 1] = uid or ''
  end
end
return found
""")

LIVING = _script("""
-- The ids and uids of some of a bucket's records; '' for the uid of a damaged one.
-- keys: bucket; arguments: bucket, first, last, prefix of the record keys
local found = {}
for _, sid in ipairs(redis.call('LRANGE', KEYS[1], ARGV[2], ARGV[3])) do
  local active, _, bucket, uid = head_of(ARGV[4] .. sid)
  if active == false or (active and bucket == tonumber(ARGV[1])) then
    found[#found + 1] = sid
    found[#found + 1] = uid or ''
  end
end
return found
""")

DAMAGED = _script("""
-- The ids of damaged records among those given. Reads the heads of the records and of their namespaces.
-- keys: buckets; arguments: prefix of the record keys, ids
local function is_text(bytes)
  local rest = string.gsub(bytes, '[\\194-\\244][\\128-\\191]+', '')
  return not string.find(rest, '[\\128-\\255]')
end

local function is_damaged(key)
  local active, _, _, _, place = head_of(key)
  if not active then return active == false end
  local size = redis.call('STRLEN', key)
  while place <= size do
    local head = redis.call('GETRANGE', key, place - 1, place + 8)
    if #head < 10 then return true end
    local length, _, bytes = struct.unpack('>I2I4I4', head)
    if not is_text(redis.call('GETRANGE', key, place + 9, place + 8 + length)) then return true end
    place = place + 10 + length + bytes
  end
  return place ~= size + 1
end

local found = {}
for i = 2, #ARGV do
  if is_damaged(ARGV[1] .. ARGV[i]) then found[#found + 1] = ARGV[i] end
end
return found
""")
