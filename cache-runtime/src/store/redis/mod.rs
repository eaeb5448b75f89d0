//! The store on a Redis or Valkey server: the only room that names `redis`.
//!
//! `link.rs` holds the connection, `supervisor.rs` makes it, `script.rs` is the compare-and-set, `scan.rs`
//! globs, `fault.rs` what each error means, `deployment.rs` the URL, `address.rs` one server, `tls.rs` what
//! secures it, `sentinel.rs` where a primary is, `pool.rs` what `get_redis` hands out.
//! `sessions.rs` keeps the sessions of a user. `joint.rs` asks for an entry and its tags in one flush.
//! `tracking.rs` is the connection that tells what changed, `tracker.rs` makes that one.
//! `queue.rs` keeps writes for a database.

mod address;
mod cluster;
mod deployment;
mod fault;
mod joint;
mod link;
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

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value, cmd};

use address::Address;
pub(crate) use cluster::ClusterStore;
pub(crate) use deployment::Deployment;
pub(crate) use link::{LinkOptions, Part};
pub use pool::RedisConnection;

use self::link::{Link, Place};
use self::pool::Pool;
use self::queue::RedisQueue;
use self::script::{ADD, EXTEND, RELEASE, STAMP, SWAP, Script};
use super::joint::{How, Joint, OnEntry, OnTag, Sighted};
use super::queue::Queue;
use super::sessions::{Act, Found, Lives};
use super::{
    Aged, Connecting, Decision, Each, Expiry, Keeper, Limit, Reach, Reply, Store, Tracked, fresh_for,
};
use crate::error::StoreError;
use crate::record::{self, Prefix};
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
    fn probe(&self, slot: u16) {
        self.link.tracking.probe(slot, || cluster::key_in(slot));
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

/// What `PTTL` says of a key that isn't there.
const GONE: i64 = -2;

/// How old it is before what it is: a life is never longer than that of the value.
fn aged(key: &str) -> Pipeline {
    let mut both = Pipeline::with_capacity(2);
    both.cmd("PTTL").arg(key).cmd("GET").arg(key);
    both
}

#[allow(clippy::option_option)] // a reply of another form, no value, a value
fn bytes_of(reply: Value) -> Option<Option<Bytes>> {
    match reply {
        Value::Nil => Some(None),
        Value::BulkString(bytes) => Some(Some(Bytes::from(bytes))),
        _ => None,
    }
}

impl Drop for RedisStore {
    /// The supervisor would go on for as long as its runtime does.
    fn drop(&mut self) {
        self.link.retire();
        self.queues().values().for_each(|queue| queue.close());
    }
}

fn count_of(reply: &Value) -> Option<u64> {
    match reply {
        Value::Int(count) => u64::try_from(*count).ok(),
        _ => None,
    }
}

/// What `PTTL` says: of a key that isn't there, of one that never expires, what is left.
#[allow(clippy::option_option)]
fn life_of(reply: &Value) -> Option<Option<Option<Duration>>> {
    match reply {
        Value::Int(GONE) => Some(None),
        Value::Int(-1) => Some(Some(None)),
        Value::Int(left) => u64::try_from(*left).ok().map(|left| Some(Some(Duration::from_millis(left)))),
        _ => None,
    }
}

fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn set(key: &str, value: &[u8], life: Option<Duration>) -> Cmd {
    let mut set = cmd("SET");
    set.arg(key).arg(value);
    if let Some(life) = life {
        set.arg("PX").arg(millis(life));
    }
    set
}

impl Store for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        Box::pin(async move {
            let reply = self.ask(cmd("GET").arg(key)).await?;
            self.link.expect(bytes_of(reply))
        })
    }

    fn get_aged<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Aged>> {
        Box::pin(async move {
            let replies = self.link.ask_many(&aged(key)).await?;
            self.aged(replies)
        })
    }

    fn get_tracked<'a>(&'a self, key: &'a str) -> Reply<'a, Tracked> {
        Box::pin(async move {
            let (replies, may_keep) = self.link.ask_tracked(&aged(key)).await?;
            self.tracked(replies, may_keep)
        })
    }

    fn sight<'a>(&'a self, key: Option<&'a str>, tags: &'a [String], how: How) -> Reply<'a, Sighted> {
        Box::pin(joint::sight(&self.link, key, tags, how))
    }

    fn flush<'a>(&'a self, entry: Option<(&'a str, OnEntry)>, tags: Vec<OnTag>) -> Reply<'a, Joint> {
        Box::pin(async move { joint::flush(&self.link, entry, &tags).await })
    }

    fn track(&self, keeper: Arc<dyn Keeper>) {
        self.link.tracking.tell(keeper);
    }

    fn acquire<'a>(&'a self, key: &'a str, lease: Bytes, life: Duration) -> Reply<'a, Option<Bytes>> {
        Box::pin(async move {
            let mut set = set(key, &lease, Some(life));
            let reply = self.send(set.arg("NX").arg("GET")).await?;
            self.link.expect(bytes_of(reply))
        })
    }

    fn swap<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        value: Bytes,
        life: Option<Duration>,
    ) -> Reply<'a, bool> {
        Box::pin(async move {
            let life = life.map(|life| millis(life).to_string()).unwrap_or_default();
            self.flag(&SWAP, key, &[&seen, &value, life.as_bytes()]).await
        })
    }

    fn stamp<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        head: Bytes,
        most: Option<Duration>,
    ) -> Reply<'a, bool> {
        Box::pin(async move {
            let most = most.map(|most| millis(most).to_string()).unwrap_or_default();
            self.flag(&STAMP, key, &[&seen, &head, most.as_bytes()]).await
        })
    }

    fn extend<'a>(&'a self, key: &'a str, seen: Prefix, life: Duration) -> Reply<'a, bool> {
        Box::pin(async move {
            let life = millis(life).to_string();
            self.flag(&EXTEND, key, &[&seen, life.as_bytes()]).await
        })
    }

    fn release<'a>(&'a self, key: &'a str, seen: Prefix) -> Reply<'a, bool> {
        Box::pin(async move { self.flag(&RELEASE, key, &[&seen]).await })
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, life: Option<Duration>) -> Reply<'a, ()> {
        Box::pin(async move {
            let reply = self.send(&set(key, &value, life)).await?;
            self.link.expect((reply == Value::Okay).then_some(()))
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        Box::pin(async move {
            let mut both = Pipeline::with_capacity(2);
            both.cmd("GETRANGE").arg(key).arg(0).arg(record::PREFIX - 1).cmd("UNLINK").arg(key);
            let [head, removed] = self.link.send_many(&both).await?;
            let removed = self.link.expect(count_of(&removed?))?;
            // A list or a hash has no bytes to show, and is removed all the same.
            let head = head.ok().and_then(bytes_of).flatten().unwrap_or_default();
            Ok((removed > 0).then_some(head))
        })
    }

    fn fence<'a>(&'a self, key: &'a str, token: Prefix, life: Duration) -> Reply<'a, ()> {
        Box::pin(async move {
            let reply = script::fence(&self.link, key, &token, Some(life)).await?;
            self.link.expect((reply == Value::Int(1)).then_some(()))
        })
    }

    fn unfence<'a>(&'a self, key: &'a str, token: Prefix) -> Reply<'a, ()> {
        Box::pin(async move {
            let reply = script::fence(&self.link, key, &token, None).await?;
            self.link.expect((reply == Value::Int(1)).then_some(()))
        })
    }

    fn remove_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, u64> {
        Box::pin(async move {
            let mut removed = 0;
            for keys in keys.chunks(STEP) {
                let reply = self.ask(cmd("UNLINK").arg(keys)).await?;
                removed += self.link.expect(count_of(&reply))?;
            }
            Ok(removed)
        })
    }

    fn remove_matching<'a>(&'a self, glob: &'a str, reach: Reach) -> Reply<'a, u64> {
        Box::pin(async move { Ok(self.link.remove_matching(glob, reach).await?.removed) })
    }

    fn get_each<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Bytes>> {
        Box::pin(async move {
            // No MGET: it hides what is no string, one key that the user may not read fails it for all,
            // and in a cluster the keys are on several servers.
            let mut all = Pipeline::with_capacity(keys.len());
            for key in keys {
                let mut get = Cmd::with_capacity(2, "GET".len() + key.len());
                get.arg("GET").arg(key);
                all.add_command(get);
            }
            let replies = self.link.ask_all(&all).await?;
            Ok(replies.into_iter().map(|reply| self.link.expect(bytes_of(reply?))).collect())
        })
    }

    fn get_each_aged<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Aged>> {
        Box::pin(async move {
            let mut all = Pipeline::with_capacity(2 * keys.len());
            for key in keys {
                all.cmd("PTTL").arg(key).cmd("GET").arg(key);
            }
            let mut replies = self.link.ask_all(&all).await?.into_iter();
            let pairs = std::iter::from_fn(|| Some([replies.next()?, replies.next()?]));
            Ok(pairs.map(|pair| self.aged(pair)).collect())
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            if self.is_node() {
                let read = |reply| match reply {
                    // As `MGET` says it.
                    Err(StoreError::WrongType(_)) => Ok(None),
                    reply => self.link.expect(bytes_of(reply?)),
                };
                return self.each("GET", keys).await?.into_iter().map(read).collect();
            }
            let reply = self.ask(cmd("MGET").arg(keys)).await?;
            let found = match reply {
                Value::Array(found) if found.len() == keys.len() => {
                    found.into_iter().map(bytes_of).collect::<Option<Vec<_>>>()
                }
                _ => None,
            };
            self.link.expect(found)
        })
    }

    fn get_many_aged<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Aged>>> {
        Box::pin(async move {
            let mut all = Pipeline::with_capacity(2 * keys.len());
            for key in keys {
                all.cmd("PTTL").arg(key).cmd("GET").arg(key);
            }
            let mut replies = self.link.send_all(&all).await?.into_iter();
            let mut found = Vec::with_capacity(keys.len());
            for _ in keys {
                let mut next = || self.link.expect(replies.next())?;
                let left = self.link.expect(life_of(&next()?))?;
                let value = self.link.expect(bytes_of(next()?))?;
                found.push(value.map(|value| (value, left.flatten())));
            }
            Ok(found)
        })
    }

    fn set_many(&self, pairs: Vec<(String, Bytes)>, life: Option<Duration>) -> Reply<'_, ()> {
        Box::pin(async move {
            if pairs.is_empty() {
                return Ok(());
            }
            let mut all = Pipeline::with_capacity(pairs.len());
            for (key, value) in &pairs {
                all.add_command(set(key, value, life));
            }
            for reply in self.link.send_all(&all).await? {
                let reply = reply?;
                self.link.expect((reply == Value::Okay).then_some(()))?;
            }
            Ok(())
        })
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, life: Option<Duration>) -> Reply<'a, i64> {
        Box::pin(async move {
            let reply = match life {
                None => self.send(cmd("INCRBY").arg(key).arg(by)).await?,
                Some(life) => {
                    let (by, life) = (by.to_string(), millis(life).to_string());
                    ADD.run(&self.link, &[key], &[by.as_bytes(), life.as_bytes()]).await?
                }
            };
            self.link.expect(if let Value::Int(sum) = reply { Some(sum) } else { None })
        })
    }

    fn admit<'a>(&'a self, key: &'a str, limit: Limit) -> Reply<'a, Decision> {
        Box::pin(async move { script::admit(&self.link, key, limit).await })
    }

    fn sessions<'a>(&'a self, key: &'a str, act: Act, lives: Lives) -> Reply<'a, Vec<Found>> {
        Box::pin(async move { sessions::act(&self.link, key, &act, lives).await })
    }

    fn expire<'a>(&'a self, key: &'a str, life: Option<Duration>) -> Reply<'a, bool> {
        Box::pin(async move {
            let count = match life {
                Some(life) => self.send(cmd("PEXPIRE").arg(key).arg(millis(life))).await?,
                None => {
                    let mut both = Pipeline::with_capacity(2);
                    both.cmd("PERSIST").arg(key).cmd("EXISTS").arg(key);
                    let [persisted, exists] = self.link.send_many(&both).await?;
                    persisted?;
                    exists?
                }
            };
            Ok(self.link.expect(count_of(&count))? == 1)
        })
    }

    fn expiry<'a>(&'a self, key: &'a str) -> Reply<'a, (Expiry, bool)> {
        Box::pin(async move {
            let mut both = Pipeline::with_capacity(2);
            both.cmd("PTTL").arg(key).cmd("GETRANGE").arg(key).arg(0).arg(record::HEADER - 1);
            let [left, head] = self.link.ask_many(&both).await?;
            // A list or a hash has no bytes to show, and a life all the same.
            let head = head.ok().and_then(bytes_of).flatten().unwrap_or_default();
            Ok(match self.link.expect(life_of(&left?))? {
                Some(left) if record::is_value(&head) => (fresh_for(&head, left), record::has_tags(&head)),
                _ => (Expiry::Missing, false),
            })
        })
    }

    fn queue(&self, base: &str) -> Arc<dyn Queue> {
        self.own_queue(base)
    }

    fn ping(&self) -> Reply<'_, ()> {
        Box::pin(async move {
            let reply = self.ask(&cmd("PING")).await?;
            self.link.expect(matches!(reply, Value::SimpleString(_)).then_some(()))
        })
    }

    fn overdue(&self) {
        self.link.overdue();
    }

    fn distrust(&self, why: &'static str) {
        self.link.distrust(why);
    }

    /// The connection is made anew, and what is kept is carried out first.
    fn invalidation_waits(&self) {
        self.link.distrust("an invalidation waits");
    }

    fn connection(&self) -> Option<Connecting<'_>> {
        Some(Box::pin(self.pool.get(&self.link)))
    }

    fn close(&self) {
        self.link.close();
        self.pool.close();
        self.queues().values().for_each(|queue| queue.close());
    }
}

#[cfg(test)]
mod tests {
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
