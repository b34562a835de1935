//! What Redis does in one piece with the shared state.
//!
//! Values lie in a hash as `version:end:value` (the end in µs, 0 for never); their keys in an ordered set, for lists, and
//! those that end in another, by that. Leases are a hash alike. A hash has the `last` version, and `shown`, that of the
//! newest change in the stream of changes. A version is the server's time in µs, or one more than the last: it does not
//! repeat where Redis lost everything.

use std::sync::LazyLock;

use crate::redis::scripts::{Text, of_meta};

/// Names of the keys, in the order of `KEYS`.
pub(super) const KEYS: [&str; 6] =
    ["meta", "meta:keys", "meta:ends", "meta:leases", "meta:state", "meta:changes"];

/// A change's body: `version before:end:length of the key:key`, then `=` and the value, or `-`.
const COMMON: &str = r"
local VALUES, ORDER, ENDS, LEASES, STATE, CHANGES = unpack(KEYS)
local function next_version()
  local last = tonumber(redis.call('HGET', STATE, 'last') or '0')
  local version = math.max(last + 1, now())
  redis.call('HSETNX', STATE, 'incarnation', f(version))
  redis.call('HSET', STATE, 'last', f(version))
  return f(version)
end
local function read(hash, key, at)
  local record = redis.call('HGET', hash, key)
  if not record then return nil end
  local _, head, version, ends = string.find(record, '^(%d+):(%d+):')
  if ends ~= '0' and tonumber(ends) <= at then return nil end
  return version, string.sub(record, head + 1)
end
local function is_expected(expect, version)
  return expect == '*' or expect == (version or '')
end
local function show(version, ends, key, value)
  local before = redis.call('HGET', STATE, 'shown') or '0'
  local body = before .. ':' .. ends .. ':' .. #key .. ':' .. key .. (value and '=' .. value or '-')
  redis.call('XADD', CHANGES, 'MAXLEN', 1024, version .. '-0', 'b', body, 't', f(now()))
  redis.call('HSET', STATE, 'shown', version)
end
local function remove(key)
  redis.call('HDEL', VALUES, key)
  redis.call('ZREM', ORDER, key)
  redis.call('ZREM', ENDS, key)
  local version = next_version()
  show(version, '0', key, nil)
  return version
end
";

fn script(body: &str) -> Text {
    of_meta(&[COMMON, body].concat())
}

/// Answers the name of the state and the version of its newest change; makes what is missing.
pub(super) static OPEN: LazyLock<Text> = LazyLock::new(|| {
    script(
        r"
if redis.call('HEXISTS', STATE, 'incarnation') == 0 then next_version() end
local state = redis.call('HMGET', STATE, 'incarnation', 'shown')
return {state[1], state[2] or '0'}
",
    )
});

/// ARGV: the key. Answers its record, or nothing.
pub(super) static GET: LazyLock<Text> =
    LazyLock::new(|| script("return redis.call('HGET', VALUES, ARGV[1])"));

/// ARGV: key, value, what is expected (`*` anything, empty nothing, a version), now, end. Answers whether it was so, and the
/// version.
pub(super) static PUT: LazyLock<Text> = LazyLock::new(|| {
    script(
        r"
local key, value, ends = ARGV[1], ARGV[2], ARGV[5]
local found = read(VALUES, key, tonumber(ARGV[4]))
if not is_expected(ARGV[3], found) then return {0, found or '0'} end
local version = next_version()
redis.call('HSET', VALUES, key, version .. ':' .. ends .. ':' .. value)
redis.call('ZADD', ORDER, 0, key)
if ends == '0' then redis.call('ZREM', ENDS, key) else redis.call('ZADD', ENDS, ends, key) end
show(version, ends, key, value)
return {1, version}
",
    )
});

/// ARGV: key, what is expected, now. Answers whether it was so, and the version; 0 where there was nothing.
pub(super) static DELETE: LazyLock<Text> = LazyLock::new(|| {
    script(
        r"
local found = read(VALUES, ARGV[1], tonumber(ARGV[3]))
if not is_expected(ARGV[2], found) then return {0, found or '0'} end
if not found then return {1, '0'} end
return {1, remove(ARGV[1])}
",
    )
});

/// ARGV: the prefix. Answers keys, each with its record. No text has the byte 255.
pub(super) static LIST: LazyLock<Text> = LazyLock::new(|| {
    script(
        r"
local keys = redis.call('ZRANGEBYLEX', ORDER, '[' .. ARGV[1], '(' .. ARGV[1] .. '\255')
local found = {}
for _, key in ipairs(keys) do
  table.insert(found, key)
  table.insert(found, redis.call('HGET', VALUES, key) or '')
end
return found
",
    )
});

/// ARGV: name, owner, now, end, whether only one's own is prolonged. Answers the token; 0 if somebody else has it.
pub(super) static ACQUIRE: LazyLock<Text> = LazyLock::new(|| {
    script(
        r"
local token, owner = read(LEASES, ARGV[1], tonumber(ARGV[3]))
if token and owner ~= ARGV[2] or not token and ARGV[5] == '1' then return '0' end
token = token or next_version()
redis.call('HSET', LEASES, ARGV[1], token .. ':' .. ARGV[4] .. ':' .. ARGV[2])
return token
",
    )
});

/// ARGV: name, owner, now. Answers whether it was the owner's.
pub(super) static RELEASE: LazyLock<Text> = LazyLock::new(|| {
    script(
        r"
local token, owner = read(LEASES, ARGV[1], tonumber(ARGV[3]))
if not token or owner ~= ARGV[2] then return 0 end
redis.call('HDEL', LEASES, ARGV[1])
return 1
",
    )
});

/// ARGV: now, how many at most. Removes what has expired; answers how many values went.
pub(super) static SWEEP: LazyLock<Text> = LazyLock::new(|| {
    script(
        r"
local keys = redis.call('ZRANGEBYSCORE', ENDS, '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(keys) do remove(key) end
for _, name in ipairs(redis.call('HKEYS', LEASES)) do
  if not read(LEASES, name, tonumber(ARGV[1])) then redis.call('HDEL', LEASES, name) end
end
return #keys
",
    )
});
