//! Whether a server keeps what it is given.

use std::sync::Arc;

use redis::{Value, cmd};

use super::synced::Synced;
use crate::error::{CacheError, StoreError};
use crate::store::redis::fault;
use crate::store::redis::link::Link;

/// The first version that has all the commands: `XAUTOCLAIM`.
const OLDEST: (u32, u32) = (6, 2);

pub(super) async fn check(link: &Arc<Link>, synced: Option<&Synced>) -> Result<(), CacheError> {
    let (policy, version) = match link.send(&cmd("INFO"), true).await {
        Ok(reply) => {
            let info = link.expect(text(reply))?;
            let field = |name: &str| {
                info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::to_owned)
            };
            (field("maxmemory_policy"), field("redis_version"))
        }
        // Not everybody may ask.
        Err(StoreError::Refused(_)) => (None, None),
        Err(error) => return Err(error.into()),
    };
    let policy = match policy {
        Some(policy) => policy,
        None => match link.send(cmd("CONFIG").arg("GET").arg("maxmemory-policy"), true).await {
            Ok(reply) => link.expect(setting(reply))?,
            Err(StoreError::Refused(_)) => {
                return Err(bad(
                    "nobody may ask the server whether it evicts keys that never expire: allow its user `+info` (or `+config|get`)",
                ));
            }
            Err(error) => return Err(error.into()),
        },
    };
    if policy.starts_with("allkeys-") {
        return Err(bad(&format!(
            "the server's `maxmemory-policy` is `{policy}`, which evicts queued writes when memory is short: set it to `noeviction` or to one of `volatile-*`, which evict only what expires anyway"
        )));
    }
    if let Some(version) = version
        && is_too_old(&version)
    {
        return Err(bad(&format!(
            "queues need Redis {}.{} or Valkey; this server is {version}",
            OLDEST.0, OLDEST.1
        )));
    }
    let Some(synced) = synced else { return Ok(()) };
    let Err(error) = synced.probe(link).await else { return Ok(()) };
    let (error, _) = fault::read(&error);
    let StoreError::Refused(text) = &error else { return Err(error.into()) };
    let text = text.to_lowercase();
    Err(bad(&if text.contains("unknown command") {
        "`Durability::Fsync` needs `WAITAOF`, which this server doesn't have: use Redis 7.2 or Valkey, or `Durability::Memory`".to_owned()
    } else if text.contains("appendonly") {
        "`Durability::Fsync` needs the server's append-only file, which is off: set `appendonly yes`, or use `Durability::Memory`".to_owned()
    } else {
        format!(
            "`Durability::Fsync` needs `WAITAOF`, which the server refuses ({error}): allow its user `+waitaof` on the primary, or use `Durability::Memory`"
        )
    }))
}

fn bad(what: &str) -> CacheError {
    CacheError::Settings(what.to_owned())
}

fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return false };
    (major, minor) < OLDEST
}

fn text(reply: Value) -> Option<String> {
    match reply {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The only value that `CONFIG GET` gives.
fn setting(reply: Value) -> Option<String> {
    match reply {
        Value::Map(mut pairs) => text(pairs.pop()?.1),
        Value::Array(mut parts) => text(parts.pop()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_too_old;

    #[test]
    fn versions_are_compared_as_numbers() {
        for old in ["6.0.20", "5.9.9", "4.10.1", "6.1"] {
            assert!(is_too_old(old), "{old}");
        }
        for new in ["6.2.0", "7.0.15", "10.0.0", "6.10.1", "255.255.255", "", "unstable"] {
            assert!(!is_too_old(new), "{new}");
        }
    }
}
