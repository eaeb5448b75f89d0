//! Globs on a server: `SCAN` and `UNLINK`, step by step.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value, cmd};

use super::link::Part;
use super::{STEP, count_of};
use crate::store::Reach;
use crate::store::queue::is_queue_key;

/// Scans and unlinks over one connection; how many keys there were.
pub(super) async fn unlink_matching(
    connection: &mut MultiplexedConnection,
    glob: &str,
    reach: Reach,
    patience: Duration,
    part: Part,
) -> RedisResult<u64> {
    let (mut removed, mut cursor) = (0, b"0".to_vec());
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
            removed += unlink(connection, keys, patience, part).await?;
        }
        if next == b"0" {
            return Ok(removed);
        }
        cursor = next;
    }
}

/// Removes keys that this server had a moment ago. Those of a cluster are of many slots, and some have moved
/// since: whoever asked looks where they are now.
async fn unlink(
    connection: &mut MultiplexedConnection,
    keys: &[Vec<u8>],
    patience: Duration,
    part: Part,
) -> RedisResult<u64> {
    if part == Part::Whole {
        let reply = query(connection, cmd("UNLINK").arg(keys), patience).await?;
        return count_of(&reply).ok_or_else(out_of_step);
    }
    let mut all = Pipeline::with_capacity(keys.len());
    for key in keys {
        all.cmd("UNLINK").arg(key);
    }
    let mut removed = 0;
    for reply in within(patience, connection.send_packed_commands(&all, 0, all.len())).await? {
        match reply.extract_error() {
            Ok(reply) => removed += count_of(&reply).ok_or_else(out_of_step)?,
            Err(error) if matches!(error.code(), Some("MOVED" | "ASK")) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
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
