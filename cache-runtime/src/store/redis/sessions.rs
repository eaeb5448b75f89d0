//! The sessions of one user, in a hash: see `store/sessions.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::link::Link;
use super::script::Script;
use crate::error::StoreError;
use crate::store::sessions::{Act, Digest, Found, Lives, MOST};

/// act, idle, absolute in ms, most, id, data or another id. Gives age, time since it was seen, and data of
/// each that is found.
///
/// What is renewed is written before anything goes, so that a server without memory refuses all of it; but
/// to be read is more important than to be renewed.
static SESSIONS: Script = Script::new(
    "local act, idle, absolute, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
     local id, other = ARGV[5], ARGV[6]
     local time = redis.call('TIME')
     local now = time[1] * 1000 + math.floor(time[2] / 1000)
     local function look(entry)
         local made = entry and tonumber(string.sub(entry, 1, 13))
         local seen = entry and tonumber(string.sub(entry, 14, 26))
         if made and seen and math.min(seen + idle, made + absolute) > now then
             return made, seen, string.sub(entry, 27)
         end
     end
     local function keep(id, made, data)
         local entry = string.format('%013.0f%013.0f', made, now) .. data
         local set = redis.pcall('HSET', KEYS[1], id, entry)
         if type(set) == 'table' and set.err and not (act == 'open' and string.find(set.err, 'OOM')) then
             return set
         end
         local life = math.min(idle, made + absolute - now)
         if redis.call('PTTL', KEYS[1]) < life then
             redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life))
         end
     end
     local function found(made, seen, data)
         return {math.max(now - made, 0), math.max(now - seen, 0), data}
     end
     if act == 'list' or act == 'create' and redis.call('HLEN', KEYS[1]) >= most then
         local all, alive, old = redis.call('HGETALL', KEYS[1]), {}, {}
         for at = 1, #all, 2 do
             local made, seen, data = look(all[at + 1])
             if made then alive[#alive + 1] = {all[at], seen, found(made, seen, data)}
             else redis.call('HDEL', KEYS[1], all[at]) end
         end
         table.sort(alive, function(a, b) return a[2] < b[2] end)
         if act == 'list' then
             for at = 1, #alive do alive[at] = alive[at][3] end
             return alive
         end
         for at = 1, #alive + 1 - most do redis.call('HDEL', KEYS[1], alive[at][1]) end
     end
     if act == 'create' then return keep(id, now, other) or {} end
     local entry = redis.call('HGET', KEYS[1], id)
     local made, seen, data = look(entry)
     if not made then
         if entry then redis.call('HDEL', KEYS[1], id) end
         return {}
     end
     local problem
     if act == 'open' then problem = keep(id, made, data)
     elseif act == 'update' then problem = keep(id, made, (string.match(data, '^[^\\n]*\\n') or '') .. other)
     elseif act == 'rotate' then problem = keep(other, made, data) end
     if problem then return problem end
     if act == 'rotate' or act == 'destroy' then redis.call('HDEL', KEYS[1], id) end
     return {found(made, seen, act == 'open' and data or '')}",
);

pub(super) async fn act(
    link: &Arc<Link>,
    key: &str,
    act: &Act,
    lives: Lives,
) -> Result<Vec<Found>, StoreError> {
    let (name, id, other): (&str, Option<&Digest>, &[u8]) = match act {
        Act::Create { id, data } => ("create", Some(id), data),
        Act::Open { id } => ("open", Some(id), b""),
        Act::Update { id, data } => ("update", Some(id), data),
        Act::Rotate { old, new } => ("rotate", Some(old), new),
        Act::Destroy { id } => ("destroy", Some(id), b""),
        Act::List => ("list", None, b""),
    };
    let [idle, absolute, most] = [lives.idle, lives.absolute, MOST as u64].map(|number| number.to_string());
    let [idle, absolute, most] = [&idle, &absolute, &most].map(String::as_bytes);
    let id = id.map(|id| &id[..]).unwrap_or_default();
    let reply = SESSIONS.run(link, &[key], &[name.as_bytes(), idle, absolute, most, id, other]).await?;
    let all = if let Value::Array(all) = reply { all.into_iter().map(found).collect() } else { None };
    link.expect(all)
}

fn found(reply: Value) -> Option<Found> {
    let Value::Array(parts) = reply else { return None };
    let [Value::Int(age), Value::Int(idle), Value::BulkString(data)] = <[Value; 3]>::try_from(parts).ok()?
    else {
        return None;
    };
    let time = |millis: i64| u64::try_from(millis).ok().map(Duration::from_millis);
    Some(Found { age: time(age)?, idle: time(idle)?, data: Bytes::from(data) })
}
