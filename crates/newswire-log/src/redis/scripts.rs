//! What Redis does in one piece: scripts, by what they do.
//!
//! The log is a stream, whose ids are `<offset>-0`, and a hash beside it: `incarnation`, `last` offset, and `at` and `bytes`
//! of that one. An entry has its body `b`, the time `t` it was stored in µs, and `s`, the bytes of all bodies up to it.

use std::sync::LazyLock;

use ::redis::Script;

/// A script, and the text it is told to Redis with.
pub(super) struct Text {
    pub(super) script: Script,
    pub(super) text: String,
}

fn text(parts: &[&str]) -> Text {
    let text = parts.concat();
    Text { script: Script::new(&text), text }
}

/// Whole numbers as text; those of Lua are exact up to 2^53.
const NUMBERS: &str = r"
local function f(n) return string.format('%.0f', n) end
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
";

/// KEYS: stream, hash. ARGV[1]: the name of a log that has to be made.
const OPEN: &str = r"
local function open()
  local log = redis.call('HMGET', KEYS[2], 'incarnation', 'last', 'at', 'bytes')
  local is_there = redis.call('EXISTS', KEYS[1]) == 1
  if log[1] and is_there then return log end
  local last = '0'
  if is_there then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then last = string.match(info[i + 1], '^%d+') end
    end
  else
    redis.call('XADD', KEYS[1], '0-1', 'b', '')
    redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
  end
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  local at, bytes = '0', '0'
  if newest then at, bytes = newest[2][4], newest[2][6] end
  redis.call('HSET', KEYS[2], 'incarnation', ARGV[1], 'last', last, 'at', at, 'bytes', bytes)
  return {ARGV[1], last, at, bytes}
end
";

/// KEYS[3]: where the id of a single message is remembered. ARGV: the name, how long in ms, bodies. Answers the first
/// offset, and whether it was there already.
pub(super) static APPEND: LazyLock<Text> = LazyLock::new(|| {
    text(&[
        NUMBERS,
        OPEN,
        r"
local log = open()
if KEYS[3] then
  local known = redis.call('GET', KEYS[3])
  local of, offset = string.match(known or '', '^(%S+) (%d+)$')
  if of == log[1] then return {offset, 1} end
end
local at = math.max(now(), tonumber(log[3]))
local first = tonumber(log[2]) + 1
local offset, bytes = first - 1, tonumber(log[4])
for i = 3, #ARGV do
  offset = offset + 1
  bytes = bytes + #ARGV[i]
  redis.call('XADD', KEYS[1], f(offset) .. '-0', 'b', ARGV[i], 't', f(at), 's', f(bytes))
end
redis.call('HSET', KEYS[2], 'last', f(offset), 'at', f(at), 'bytes', f(bytes))
if KEYS[3] then redis.call('SET', KEYS[3], log[1] .. ' ' .. f(first), 'PX', ARGV[2]) end
return {f(first), 0}
",
    ])
});

/// ARGV: the name, the last offset that there is, and then offset and body of each; refuses another last offset.
pub(super) static PLACE: LazyLock<Text> = LazyLock::new(|| {
    text(&[
        NUMBERS,
        OPEN,
        r"
local log = open()
if log[2] ~= ARGV[2] then return redis.error_reply('ERR the last offset is ' .. log[2] .. ' instead of ' .. ARGV[2]) end
local at = math.max(now(), tonumber(log[3]))
local last, bytes = log[2], tonumber(log[4])
for i = 3, #ARGV, 2 do
  last = ARGV[i]
  bytes = bytes + #ARGV[i + 1]
  redis.call('XADD', KEYS[1], last .. '-0', 'b', ARGV[i + 1], 't', f(at), 's', f(bytes))
end
redis.call('HSET', KEYS[2], 'last', last, 'at', f(at), 'bytes', f(bytes))
return 1
",
    ])
});

/// ARGV: the name, the last offset that there is, and the one that is to count as that.
pub(super) static PLACED: LazyLock<Text> = LazyLock::new(|| {
    text(&[
        NUMBERS,
        OPEN,
        r"
local log = open()
if log[2] ~= ARGV[2] then return redis.error_reply('ERR the last offset is ' .. log[2] .. ' instead of ' .. ARGV[2]) end
redis.call('XSETID', KEYS[1], ARGV[3] .. '-0')
redis.call('HSET', KEYS[2], 'last', ARGV[3])
return 1
",
    ])
});

/// Answers the name, the first offset and the last.
pub(super) static EXTENT: LazyLock<Text> = LazyLock::new(|| {
    text(&[
        NUMBERS,
        OPEN,
        r"
local log = open()
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local first = oldest and string.match(oldest[1], '^%d+') or f(tonumber(log[2]) + 1)
return {log[1], first, log[2]}
",
    ])
});

/// ARGV: beyond which offset, how many at most, after how many bytes no more. Answers the name (empty where there is no
/// log), the last offset, and then offset, time and body of each.
pub(super) static READ: LazyLock<Text> = LazyLock::new(|| {
    text(&[
        NUMBERS,
        r"
local log = redis.call('HMGET', KEYS[2], 'incarnation', 'last')
local found = {log[1] or '', log[2] or '0'}
local after, most, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
while most > 0 and bytes > 0 do
  local step = math.min(most, 32)
  local entries = redis.call('XRANGE', KEYS[1], f(after + 1) .. '-0', '+', 'COUNT', step)
  for _, entry in ipairs(entries) do
    local offset = string.match(entry[1], '^%d+')
    after = tonumber(offset)
    bytes = bytes - #entry[2][2]
    table.insert(found, offset)
    table.insert(found, entry[2][4])
    table.insert(found, entry[2][2])
  end
  most = most - #entries
  if #entries < step then break end
end
return found
",
    ])
});

/// ARGV: the longest age in µs, the most bytes, the most events (each 0 for no bound), and how many may go at once.
/// Removes the oldest; answers how many went. Times and sums ascend, so that the place of the cut is searched by halves.
pub(super) static TRIM: LazyLock<Text> = LazyLock::new(|| {
    text(&[
        NUMBERS,
        r"
local log = redis.call('HMGET', KEYS[2], 'last', 'bytes')
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not log[1] or not oldest then return 0 end
local low, last, all = tonumber(string.match(oldest[1], '^%d+')), tonumber(log[1]), tonumber(log[2])
local function first_that(stays)
  local from, to = low, last + 1
  while from < to do
    local middle = math.floor((from + to) / 2)
    local entry = redis.call('XRANGE', KEYS[1], f(middle) .. '-0', '+', 'COUNT', 1)[1]
    if not entry or stays(entry[2]) then to = middle else from = middle + 1 end
  end
  return from
end
local age, bytes, events = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local cut = low
if events > 0 then cut = math.max(cut, last - events + 1) end
if age > 0 then
  local oldest_time = now() - age
  cut = math.max(cut, first_that(function(entry) return tonumber(entry[4]) > oldest_time end))
end
if bytes > 0 then
  cut = math.max(cut, first_that(function(entry) return all - tonumber(entry[6]) + #entry[2] <= bytes end))
end
cut = math.min(cut, low + tonumber(ARGV[4]))
if cut <= low then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', f(cut) .. '-0')
",
    ])
});

/// Parts of scripts of the shared state.
pub(super) fn of_meta(body: &str) -> Text {
    text(&[NUMBERS, body])
}
