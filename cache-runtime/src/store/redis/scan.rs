//! Globs on a server: `SCAN` and `UNLINK`, step by step.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value, cmd};

use super::STEP;
use super::link::Part;
use super::wire::count_of;
use crate::store::Reach;
use crate::store::queue::is_queue_key;

/// What going through all keys of a server brought.
#[derive(Debug, Default)]
pub(super) struct Unlinked {
    pub(super) removed: u64,
    /// Keys that it has and may not remove: those of a slot that it is being given, and of those that were its own
    /// when it was a primary. Whoever asked removes them where they are.
    pub(super) elsewhere: Vec<Vec<u8>>,
}

/// Scans and unlinks over one connection.
pub(super) async fn unlink_matching(
    connection: &mut MultiplexedConnection,
    glob: &str,
    reach: Reach,
    patience: Duration,
    part: Part,
) -> RedisResult<Unlinked> {
    let (mut done, mut cursor) = (Unlinked::default(), b"0".to_vec());
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor[..]).arg("MATCH").arg(glob).arg("COUNT").arg(STEP);
        let (next, keys) = page(query(connection, &scan, patience).await?).ok_or_else(out_of_step)?;
        // The server's own stars reach as far as they like. What a queue holds is no entry: it was
        // acknowledged, and a kept invalidation may become the glob of a whole namespace.
        let fits =
            |key: &Vec<u8>| (reach == Reach::Any || reach.fits(glob.as_bytes(), key)) && !is_queue_key(key);
        let keys: Vec<_> = keys.into_iter().filter(fits).collect();
        for keys in keys.chunks(STEP) {
            unlink(connection, keys, patience, part, &mut done).await?;
        }
        if next == b"0" {
            return Ok(done);
        }
        cursor = next;
    }
}

/// Removes keys that this server had a moment ago. Those of a cluster are of many slots.
async fn unlink(
    connection: &mut MultiplexedConnection,
    keys: &[Vec<u8>],
    patience: Duration,
    part: Part,
    done: &mut Unlinked,
) -> RedisResult<()> {
    if part == Part::Whole {
        let reply = query(connection, cmd("UNLINK").arg(keys), patience).await?;
        done.removed += count_of(&reply).ok_or_else(out_of_step)?;
        return Ok(());
    }
    let mut all = Pipeline::with_capacity(keys.len());
    for key in keys {
        all.cmd("UNLINK").arg(key);
    }
    let replies = within(patience, connection.send_packed_commands(&all, 0, all.len())).await?;
    for (reply, key) in replies.into_iter().zip(keys) {
        match reply.extract_error() {
            Ok(reply) => done.removed += count_of(&reply).ok_or_else(out_of_step)?,
            Err(error) if matches!(error.code(), Some("MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN")) => {
                done.elsewhere.push(key.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One command, for which the server has so much time.
pub(super) async fn query(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    patience: Duration,
) -> RedisResult<Value> {
    within(patience, async { connection.send_packed_command(command).await.and_then(Value::extract_error) })
        .await
}

pub(super) async fn within<T>(
    patience: Duration,
    step: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match tokio::time::timeout(patience, step).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

fn out_of_step() -> redis::RedisError {
    (redis::ErrorKind::UnexpectedReturnType, "a reply doesn't belong to its command").into()
}

/// A page of `SCAN`: the next cursor and the keys, which may be any bytes.
fn page(reply: Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Value::Array(parts) = reply else { return None };
    let [Value::BulkString(cursor), Value::Array(keys)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    let keys = keys.into_iter().map(|key| if let Value::BulkString(key) = key { Some(key) } else { None });
    Some((cursor, keys.collect::<Option<_>>()?))
}
