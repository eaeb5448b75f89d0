//! Compare-and-set on the prefix of a record. One key each, so any node of a cluster can run them; those
//! of queues (`queue/scripts.rs`) take more.
//!
//! A script is sent by its digest, and whole when the server doesn't know it (after a restart, a
//! failover or a `SCRIPT FLUSH`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{Cmd, Value, cmd};

use super::abilities;
use super::link::Link;
use crate::error::StoreError;
use crate::record::Prefix;
use crate::store::{Decision, Limit, fence, window};

/// A script, which the server keeps once it has seen it.
pub(super) struct Script {
    code: &'static str,
    digest: OnceLock<String>,
}

/// seen, value, life in ms or nothing: replaces the value.
pub(super) static SWAP: Script = Script::new(
    "if redis.call('GETRANGE', KEYS[1], 0, 19) ~= ARGV[1] then return 0 end
     if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
     else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
     return 1",
);

/// seen, head, the most that may be left in ms or nothing: overwrites the head; `SETRANGE` keeps the life.
pub(super) static STAMP: Script = Script::new(
    "if redis.call('GETRANGE', KEYS[1], 0, 19) ~= ARGV[1] then return 0 end
     if ARGV[3] ~= '' and redis.call('PTTL', KEYS[1]) > tonumber(ARGV[3]) then return 0 end
     redis.call('SETRANGE', KEYS[1], 0, ARGV[2])
     return 1",
);

/// seen, life in ms: a new life.
pub(super) static EXTEND: Script = Script::new(
    "if redis.call('GETRANGE', KEYS[1], 0, 19) ~= ARGV[1] then return 0 end
     return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
);

/// seen: removes the key.
pub(super) static RELEASE: Script = Script::new(
    "if redis.call('GETRANGE', KEYS[1], 0, 19) ~= ARGV[1] then return 0 end
     return redis.call('DEL', KEYS[1])",
);

/// life in ms or nothing: what is a version lives at least for so long. A fence, which may have come since
/// the version was read, ends when its writer said.
pub(super) static KEEP: Script = Script::new(
    "if redis.call('STRLEN', KEYS[1]) ~= 16 then return 0 end
     if ARGV[1] == '' then return redis.call('PERSIST', KEYS[1]) end
     local left = redis.call('PTTL', KEYS[1])
     if left < 0 or left >= tonumber(ARGV[1]) then return 0 end
     return redis.call('PEXPIRE', KEYS[1], ARGV[1])",
);

/// value, life in ms: sets a key that isn't there, or gives what is; where `SET` doesn't take `NX` and `GET`.
/// What may be refused comes first, so a replica, and one without memory, say so.
pub(super) static ACQUIRE: Script = Script::new(
    "if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return false end
     return redis.call('GET', KEYS[1])",
);

/// head, token, life in ms or nothing: puts up a fence, or takes it away, as `store/fence.rs` says. The
/// last thing that is taken away is the key, whatever is there; so it is when memory is short.
static FENCE: Script = Script::new(
    "local fences, left = {}, redis.call('PTTL', KEYS[1])
     if redis.pcall('GETRANGE', KEYS[1], 0, 3) == ARGV[1] then
         local there = redis.call('GET', KEYS[1])
         for at = 5, #there, 29 do
             local token = string.sub(there, at, at + 15)
             local early = tonumber(string.sub(there, at + 16, at + 28))
             if token ~= ARGV[2] and early and early < left then
                 fences[#fences + 1] = {token, left - early}
             end
         end
     end
     if ARGV[3] ~= '' then fences[#fences + 1] = {ARGV[2], tonumber(ARGV[3])} end
     local longest, all = 0, ARGV[1]
     for _, fence in ipairs(fences) do longest = math.max(longest, fence[2]) end
     for _, fence in ipairs(fences) do
         all = all .. fence[1] .. string.format('%013.0f', longest - fence[2])
     end
     if #fences > 0 then
         local set = redis.pcall('SET', KEYS[1], all, 'PX', string.format('%.0f', longest))
         if not set.err then return 1 end
         if ARGV[3] ~= '' then return set end
     end
     redis.call('UNLINK', KEYS[1])
     return 1",
);

/// Puts up a fence for so long, or takes it away.
pub(super) async fn fence(
    link: &Arc<Link>,
    key: &str,
    token: &Prefix,
    life: Option<Duration>,
) -> Result<Value, StoreError> {
    let life = life.map(|life| fence::millis(life).to_string()).unwrap_or_default();
    FENCE.run(link, &[key], &[&token[..fence::HEAD], &token[fence::HEAD..], life.as_bytes()]).await
}

/// The command that takes a fence away.
pub(super) fn unfence(key: &str, token: &Prefix) -> Cmd {
    call("EVAL", FENCE.code, &[key], &[&token[..fence::HEAD], &token[fence::HEAD..], b""])
}

/// by, life in ms: adds, and gives a life to a key that has none.
pub(super) static ADD: Script = Script::new(
    "local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
     if redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
     return sum",
);

/// max, window, grain, window in ms: one more call within the window, or none, as `store/window.rs` says.
/// Gives whether it is allowed, how many more would be, and a time.
static ADMIT: Script = Script::new(
    "local max, window, grain = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
     local time = redis.call('TIME')
     local now = time[1] * 1000000 + time[2]
     local log = redis.call('GET', KEYS[1]) or '0000000000'
     local function batch(at)
         return tonumber(string.sub(log, at, at + 15)), tonumber(string.sub(log, at + 16, at + 25))
     end
     local total, at = tonumber(string.sub(log, 1, 10)), 11
     if not total or #log % 26 ~= 10 then return redis.error_reply(ARGV[5]) end
     while at < #log do
         local last, count = batch(at)
         if not last or not count then return redis.error_reply(ARGV[5]) end
         if last + window > now then break end
         total, at = total - count, at + 26
     end
     log = string.sub(log, at)
     local newest, count = batch(#log - 25)
     if newest and newest > now then
         newest, count, log = now, total, string.format('%016.0f%010.0f', now, total)
     end
     if total >= max then
         local beyond, at = total - max, 1
         local last, count = batch(at)
         while count <= beyond do
             beyond, at = beyond - count, at + 26
             last, count = batch(at)
         end
         return {0, 0, last + window - now}
     end
     if newest and math.floor(newest / grain) == math.floor(now / grain) then
         log = string.sub(log, 1, -27)
     else
         count = 0
     end
     log = log .. string.format('%016.0f%010.0f', now, count + 1)
     redis.call('SET', KEYS[1], string.format('%010.0f', total + 1) .. log, 'PX', ARGV[4])
     return {1, max - total - 1, batch(1) + window - now}",
);

/// One more call, if the limit allows it.
pub(super) async fn admit(link: &Arc<Link>, key: &str, limit: Limit) -> Result<Decision, StoreError> {
    let Limit { max, window, grain } = limit;
    let args = [max.into(), window, grain, fence::millis(limit.life())].map(|number| number.to_string());
    let [max, window, grain, life] = args.each_ref().map(String::as_bytes);
    let reply = ADMIT.run(link, &[key], &[max, window, grain, life, window::FOREIGN.as_bytes()]).await?;
    let decision = |parts: &[Value]| {
        let [Value::Int(is_allowed), Value::Int(remaining), Value::Int(time)] = parts else { return None };
        let time = Duration::from_micros(u64::try_from(*time).ok()?);
        Some(match is_allowed {
            0 => Decision::Limited { retry_after: time },
            _ => Decision::Allowed { remaining: u32::try_from(*remaining).ok()?, reset_after: time },
        })
    };
    link.expect(if let Value::Array(parts) = reply { decision(&parts) } else { None })
}

impl Script {
    pub(super) const fn new(code: &'static str) -> Self {
        Self { code, digest: OnceLock::new() }
    }

    /// Runs it on these keys.
    pub(super) async fn run(
        &self,
        link: &Arc<Link>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        abilities::scripts(link).await?;
        match link.send(&self.call(link, keys, args), false).await {
            Err(error) if abilities::wants_whole(link, &error) => self.whole(link, keys, args).await,
            answered => answered.inspect_err(|error| abilities::note(link, error)),
        }
    }

    /// The command that runs it, if the server knows it.
    pub(super) fn call(&self, link: &Link, keys: &[&str], args: &[&[u8]]) -> Cmd {
        if link.abilities.whole_scripts() {
            return self.whole_call(keys, args);
        }
        let digest = self.digest.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned());
        call("EVALSHA", digest, keys, args)
    }

    /// The command that runs it on a server that doesn't know it.
    pub(super) fn whole_call(&self, keys: &[&str], args: &[&[u8]]) -> Cmd {
        call("EVAL", self.code, keys, args)
    }

    /// Runs it on a server that doesn't know it.
    pub(super) async fn whole(
        &self,
        link: &Arc<Link>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let reply = link.send(&self.whole_call(keys, args), false).await;
        reply.inspect_err(|error| abilities::note(link, error))
    }
}

fn call(name: &str, script: &str, keys: &[&str], args: &[&[u8]]) -> Cmd {
    let mut call = cmd(name);
    call.arg(script).arg(keys.len()).arg(keys).arg(args);
    call
}
