//! The store on a Redis or Valkey server: the only room that names `redis`.
//!
//! `operations.rs` is what a store does, `wire.rs` what that is as commands and replies.
//! `link.rs` holds the connection, `supervisor.rs` makes it, `script.rs` is the compare-and-set, `scan.rs`
//! globs, `fault.rs` what each error means, `deployment.rs` the URL, `address.rs` one server, `tls.rs` what
//! secures it, `sentinel.rs` where a primary is, `pool.rs` what `get_redis` hands out, `abilities.rs` what not
//! every server can do.
//! `sessions.rs` keeps the sessions of a user. `joint.rs` asks for an entry and its tags in one flush.
//! `tracking.rs` is the connection that tells what changed, `tracker.rs` makes that one.
//! `queue.rs` keeps writes for a database.

mod abilities;
mod address;
mod cluster;
mod deployment;
mod fault;
mod joint;
mod link;
mod operations;
mod pool;
mod queue;
mod scan;
mod script;
mod sentinel;
mod sessions;
mod supervisor;
#[cfg(test)]
mod support;
mod tls;
mod tracker;
mod tracking;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Pipeline, Value, cmd};

use address::Address;
pub(crate) use cluster::ClusterStore;
pub(crate) use deployment::Deployment;
pub(crate) use link::{LinkOptions, Part};
pub use pool::RedisConnection;

use self::link::{Link, Place};
use self::pool::Pool;
use self::queue::RedisQueue;
use self::script::Script;
use self::wire::{GONE, bytes_of, count_of, life_of};
use super::{Aged, Tracked};
use crate::error::StoreError;
use crate::recovery::Kept;

/// Keys are looked at and removed in steps of this many.
const STEP: usize = 1000;

/// A server behind one multiplexed connection.
pub(crate) struct RedisStore {
    link: Arc<Link>,
    pool: Pool,
    /// By what their keys begin with.
    queues: Mutex<HashMap<String, Arc<RedisQueue>>>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("address", &self.link.address()).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects when it is first asked for something.
    pub(crate) fn new(place: impl Into<Place>, options: LinkOptions, kept: Arc<Kept>) -> Self {
        let link = Arc::new(Link::new(place.into(), options, kept));
        Self { pool: Pool::default(), link, queues: Mutex::default() }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, Arc<RedisQueue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.link.send(command, false).await
    }

    /// For what may be sent twice when the connection turns out to be gone.
    async fn ask(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.link.send(command, true).await
    }

    /// The queue whose keys begin so.
    fn own_queue(&self, base: &str) -> Arc<RedisQueue> {
        let make = || Arc::new(RedisQueue::new(base, Arc::clone(&self.link)));
        Arc::clone(self.queues().entry(base.to_owned()).or_insert_with(make))
    }

    /// Removes an entry that was stored with a write, but for a fence.
    async fn drop_entry(&self, key: &str) -> Result<(), StoreError> {
        queue::DROP.run(&self.link, &[key], &[]).await.map(drop)
    }

    /// Whether keys of one command are to be of one slot.
    fn is_node(&self) -> bool {
        self.link.options.part != Part::Whole
    }

    /// The same for each of these keys, in one flush.
    async fn each(
        &self,
        command: &str,
        keys: &[String],
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let mut all = Pipeline::with_capacity(keys.len());
        for key in keys {
            all.cmd(command).arg(key);
        }
        let replies = self.link.ask_all(&all).await?;
        self.link.expect((replies.len() == keys.len()).then_some(replies))
    }

    /// Removes each of these keys; for each, whether it was there.
    async fn remove_each(&self, keys: &[String]) -> Result<Vec<u64>, StoreError> {
        let count = |reply: Result<Value, StoreError>| self.link.expect(count_of(&reply?));
        let mut removed = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STEP) {
            let replies: Result<Vec<u64>, _> =
                self.each("UNLINK", keys).await?.into_iter().map(count).collect();
            removed.extend(replies?);
        }
        Ok(removed)
    }

    /// What a node of a cluster says of its slots.
    async fn slots(&self) -> Result<cluster::Own, StoreError> {
        let mut nodes = cmd("CLUSTER");
        let ask = self.ask(nodes.arg("NODES"));
        let nodes = tokio::time::timeout(self.link.options.budget, ask).await.unwrap_or_else(|_| {
            self.link.overdue();
            Err(StoreError::Timeout("no answer within the budget".to_owned()))
        })?;
        let text = match &nodes {
            Value::BulkString(text) => str::from_utf8(text).ok(),
            Value::VerbatimString { text, .. } => Some(text.as_str()),
            _ => None,
        };
        self.link.expect(text.and_then(cluster::own))
    }

    /// The server has this slot, which it is asked about when it gives a sign of life.
    fn probe(&self, slot: u16, key: impl FnOnce() -> String) {
        self.link.tracking.probe(slot, key);
    }

    async fn flag(&self, script: &Script, key: &str, args: &[&[u8]]) -> Result<bool, StoreError> {
        let reply = script.run(&self.link, &[key], args).await?;
        self.link.expect(matches!(reply, Value::Int(_)).then(|| reply == Value::Int(1)))
    }

    /// What the replies to [`aged`] say.
    fn aged(&self, [left, value]: [Result<Value, StoreError>; 2]) -> Result<Option<Aged>, StoreError> {
        let value = self.link.expect(bytes_of(value?))?;
        let left = self.link.expect(life_of(&left?))?;
        // It came between the two: its whole life is to come.
        Ok(value.map(|value| (value, left.flatten())))
    }

    /// The same for who keeps the value: of one that came between the two nobody knows for how long.
    fn tracked(
        &self,
        replies: [Result<Value, StoreError>; 2],
        may_keep: bool,
    ) -> Result<Tracked, StoreError> {
        let was_gone = matches!(replies[0], Ok(Value::Int(GONE)));
        let found = self.aged(replies)?;
        let came_between = was_gone && found.is_some();
        Ok(Tracked { found, may_keep: may_keep && !came_between })
    }
}

impl Drop for RedisStore {
    /// The supervisor would go on for as long as its runtime does.
    fn drop(&mut self) {
        self.link.retire();
        self.queues().values().for_each(|queue| queue.close());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::TlsFiles;

    #[test]
    fn a_value_that_came_after_its_life_was_asked_for_is_answered_and_not_kept() {
        let kept = Arc::new(Kept::new(1, "*".to_owned()));
        let time = Duration::from_secs(1);
        let options =
            LinkOptions { budget: time, breaker: 1, reconnect: (time, time), delta: time, part: Part::Whole };
        let store = RedisStore::new(
            Address::parse("redis://127.0.0.1:1", &TlsFiles::default()).unwrap(),
            options,
            kept,
        );
        let tracked =
            |left| store.tracked([Ok(Value::Int(left)), Ok(Value::BulkString(b"v".to_vec()))], true).unwrap();
        let life = |tracked: &Tracked| tracked.found.as_ref().map(|(_, life)| *life);
        let [came_between, without_end, ends] = [-2, -1, 5].map(tracked);
        assert_eq!((life(&came_between), came_between.may_keep), (Some(None), false));
        assert_eq!((life(&without_end), without_end.may_keep), (Some(None), true));
        assert_eq!((life(&ends), ends.may_keep), (Some(Some(Duration::from_millis(5))), true));
    }
}
