"""What the Lua scripts have in common: the guard that refuses another layout, and the functions that they use."""

from __future__ import annotations

from .connections import REFUSAL, Script
from .keys import LAYOUT, SHARDS

_GUARD = f"""
local epoch, shards = redis.call('GET', KEYS[#KEYS]), {SHARDS}
if epoch and string.sub(epoch, 1, {len(LAYOUT) + 1}) ~= '{LAYOUT}:' then
  local layout = string.match(epoch, '^(%d+):') or '1'
  local keys = string.match(KEYS[#KEYS], '^{{.-}}:')
  return redis.error_reply('{REFUSAL} sessions in Redis cannot be used: the keys ' .. keys .. '* have layout ' .. layout
    .. ' of another release, not {LAYOUT}: use another prefix, or delete these keys')
end
"""

_FUNCTIONS = """
-- A record's bytes up to the given one; false if there is none. If its key holds another type, bytes that cannot be a
-- record.
local function bytes_of(key, last)
  local data = redis.pcall('GETRANGE', key, 0, last)
  if data == '' and redis.call('EXISTS', key) == 0 then return false end
  if data == '' or type(data) == 'table' then return '?' end
  return data
end

-- Last use, uid and flags of a record. False if its head is damaged.
local function parse(data)
  local length = string.byte(data, 22)
  if not length or #data < 22 + length then return false end
  local active, created = struct.unpack('>dd', data)
  local uid = string.sub(data, 23, 22 + length)
  if not (math.abs(active) < 4294967296 and math.abs(created) < 4294967296 and string.find(uid, '^[!-~]+$')) then
    return false
  end
  return active, uid, string.byte(data, 21)
end

-- The same. Nil if there is no record.
local function head_of(key)
  local head = bytes_of(key, 276)
  if head then return parse(head) end
end

-- A command on a hash beside a record. If its key holds another type, bytes that cannot be a value in it.
local function on_hash(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.find(answer.err, 'WRONGTYPE', 1, true) then return '?' end
  return redis.call(command, key, ...)
end

local function key_of(rest)
  return string.match(KEYS[#KEYS], '^{.-}:') .. rest
end

-- Both keys beside a record.
local function beside(uid)
  return key_of('l:' .. uid), key_of('a:' .. uid)
end

-- The hash that has the id of a life, or will have it.
local function shard_of(uid)
  return key_of('u:' .. ((string.byte(uid) or 0) * 64 + (string.byte(uid, 2) or 0)) % shards)
end

-- The id of a life. False or nil if the life has ended.
local function sid_of(records, uid)
  local sid = redis.call('HGET', shard_of(uid), uid)
  local active, found
  if sid then active, found = head_of(records .. sid) end
  return active and found == uid and sid
end

local function forget(uid)
  redis.call('DECRBY', key_of('count'), redis.call('HDEL', shard_of(uid), uid))
end

local function keep_for(key, uid, flags, keep)
  redis.call('PEXPIRE', key, keep)
  if flags > 0 then
    local large, attached = beside(uid)
    redis.call('PEXPIRE', large, keep)
    redis.call('PEXPIRE', attached, keep)
  end
end

local function renew(key, uid, flags, now, keep)
  redis.call('SETRANGE', key, 0, struct.pack('>d', tonumber(now)))
  keep_for(key, uid, flags, keep)
end

-- A record, renewed if its use must be recorded, and 1 if the server is a replica and could not do that. A server that
-- cannot write can still read.
local function load(key, last, now, ttl, touch_interval, keep)
  local data, demoted = bytes_of(key, last), 0
  local active, uid, flags
  if data then active, uid, flags = parse(data) end
  if active then
    local since = tonumber(now) - active
    if since > tonumber(touch_interval) and since <= tonumber(ttl) then
      local failed = redis.pcall('SETRANGE', key, 0, struct.pack('>d', tonumber(now)))
      if type(failed) ~= 'table' then
        keep_for(key, uid, flags, keep)
      elseif string.find(failed.err, 'READONLY', 1, true) then
        demoted = 1
      end
    end
  end
  return data, demoted
end

local function drop(key, uid)
  redis.call('UNLINK', key, beside(uid))
  forget(uid)
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
""".strip().split("\n\n")
"""Each may use those before it."""


def script(body: str) -> Script:
    """Return a script of this body, with the guard and the functions that it uses.

    With all functions, each call would take half as long again.
    """
    for function in reversed(_FUNCTIONS):
        name = function.partition("local function ")[2].partition("(")[0]
        if f"{name}(" in body:
            body = f"{function}\n{body}"
    return Script(_GUARD + body)
