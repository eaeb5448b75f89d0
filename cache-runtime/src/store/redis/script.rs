//! Compare-and-set on the prefix of a record. One key each, so any node of a cluster can run them.
//!
//! A script is sent by its digest, and whole when the server doesn't know it (after a restart, a
//! failover or a `SCRIPT FLUSH`).

use std::sync::{Arc, OnceLock};

use redis::{Cmd, Value, cmd};

use super::fault;
use super::link::Link;
use crate::error::StoreError;

/// A script of one key.
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

/// by, life in ms: adds, and gives a life to a key that has none.
pub(super) static ADD: Script = Script::new(
    "local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
     if redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
     return sum",
);

impl Script {
    const fn new(code: &'static str) -> Self {
        Self { code, digest: OnceLock::new() }
    }

    /// Runs it on `key`.
    pub(super) async fn run(&self, link: &Arc<Link>, key: &str, args: &[&[u8]]) -> Result<Value, StoreError> {
        let digest = self.digest.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned());
        match link.send(&call("EVALSHA", digest, key, args), false).await {
            Err(error) if fault::is_unknown_script(&error) => {
                link.send(&call("EVAL", self.code, key, args), false).await
            }
            answered => answered,
        }
    }
}

fn call(name: &str, script: &str, key: &str, args: &[&[u8]]) -> Cmd {
    let mut call = cmd(name);
    call.arg(script).arg(1).arg(key).arg(args);
    call
}
