//! The store on a cluster: a server of its own for each primary, and the way to it.
//!
//! `cluster/slot.rs` says which slot a key has, `fleet.rs` which node has a slot, `route.rs` goes there and
//! wherever it is sent on to. A node (`node.rs`) is a [`RedisStore`], with its own connections and its own breaker:
//! one that is away takes nobody else along. `steward.rs` knows the map, and carries out invalidations that
//! were kept; until then what they are about isn't answered from the store, and all else is. `choir.rs` makes
//! one of what the nodes tell of changes, `glob.rs` goes through all keys, `queue.rs` keeps writes.
//!
//! All of an entry is one key. What is asked of several goes out side by side, but for what `tags.rs` says must
//! come after something else: that waits for its reply.

mod choir;
mod fleet;
mod glob;
mod many;
mod node;
mod pool;
mod queue;
mod route;
mod slot;
mod steward;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};

use self::fleet::Fleet;
pub(super) use self::glob::{Own, own};
use self::pool::Pool;
pub(super) use self::pool::Pooled;
use self::queue::ClusterQueue;
use self::route::{asked, route};
use super::fault::redirect;
use super::{Address, LinkOptions};
use crate::error::StoreError;
use crate::record::Prefix;
use crate::recovery::Kept;
use crate::store::joint::{How, Joint, OnEntry, OnTag, Sighted};
use crate::store::queue::Queue;
use crate::store::sessions::{Act, Found, Lives};
use crate::store::{Aged, Connecting, Decision, Each, Expiry, Keeper, Limit, Reach, Reply, Store, Tracked};

/// A cluster.
pub(crate) struct ClusterStore {
    fleet: Arc<Fleet>,
    pool: Pool,
    /// By what their keys begin with.
    queues: Mutex<HashMap<String, Arc<ClusterQueue>>>,
}

impl fmt::Debug for ClusterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterStore").field("seeds", &self.fleet.seeds).finish_non_exhaustive()
    }
}

impl Drop for ClusterStore {
    /// The steward would go on for as long as its runtime does.
    fn drop(&mut self) {
        self.fleet.retire();
    }
}

impl ClusterStore {
    /// Connects when it is first asked for something. There is at least one seed.
    pub(crate) fn new(
        seeds: Vec<Address>,
        options: LinkOptions,
        kept: Arc<Kept>,
        namespace: Option<&str>,
    ) -> Self {
        Self {
            pool: Pool::new(&seeds),
            fleet: Arc::new(Fleet::new(seeds, options, kept, namespace)),
            queues: Mutex::default(),
        }
    }

    /// While an invalidation of it is kept, a key isn't answered for.
    fn gate(&self, key: &str) -> Result<(), StoreError> {
        if self.fleet.kept.covers(key) {
            self.fleet.call();
            return Err(StoreError::Unavailable("an invalidation waits".to_owned()));
        }
        Ok(())
    }
}

/// One operation on one key, of which no invalidation waits.
macro_rules! gated {
    ($self:ident, $key:expr, |$store:ident| $operation:expr) => {
        Box::pin(async move {
            $self.gate($key)?;
            route!(&$self.fleet, $key, |$store| $operation)
        })
    };
}

impl Store for ClusterStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        gated!(self, key, |store| store.get(key))
    }

    fn get_aged<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Aged>> {
        gated!(self, key, |store| store.get_aged(key))
    }

    fn get_tracked<'a>(&'a self, key: &'a str) -> Reply<'a, Tracked> {
        gated!(self, key, |store| store.get_tracked(key))
    }

    fn sight<'a>(&'a self, key: Option<&'a str>, tags: &'a [String], how: How) -> Reply<'a, Sighted> {
        Box::pin(async move {
            key.into_iter().chain(tags.iter().map(String::as_str)).try_for_each(|key| self.gate(key))?;
            let entry = async {
                let Some(key) = key else { return Ok(None) };
                route!(&self.fleet, key, |store| store.sight(Some(key), &[], how)).map(Some)
            };
            let tags = tags.iter().map(|tag| async move {
                route!(&self.fleet, tag, |store| store.sight(None, std::slice::from_ref(tag), how))
            });
            let (entry, tags) = join(entry, join_all(tags)).await;
            let mut all =
                entry?.unwrap_or(Sighted { entry: None, versions: Vec::new(), may_keep: how.tracked });
            for tag in tags {
                let tag = tag?;
                all.versions.extend(tag.versions);
                all.may_keep &= tag.may_keep;
            }
            Ok(all)
        })
    }

    fn flush<'a>(&'a self, entry: Option<(&'a str, OnEntry)>, tags: Vec<OnTag>) -> Reply<'a, Joint> {
        Box::pin(async move {
            let keys = tags.iter().map(OnTag::key).chain(entry.iter().map(|(key, _)| *key));
            keys.into_iter().try_for_each(|key| self.gate(key))?;
            let on_entry = async {
                let Some((key, entry)) = &entry else { return Ok(None) };
                let alone = route!(&self.fleet, key, |store| async {
                    // Sent on is what nobody has carried out.
                    let done = store.flush(Some((key, entry.clone())), Vec::new()).await?;
                    match done.entry {
                        Some(Err(error)) if redirect(&error).is_some() => Err(error),
                        _ => Ok(done),
                    }
                });
                alone.map(Some)
            };
            let on_tag = async |tag: &OnTag| {
                route!(&self.fleet, tag.key(), |store| store.flush(None, vec![tag.clone()]))
            };
            // What is read after others were made is read when they have been: `tags.rs` goes by that.
            let is_made = |tag: &&OnTag| matches!(tag, OnTag::Create { .. });
            let made = join_all(tags.iter().filter(is_made).map(on_tag));
            let others = || join_all(tags.iter().filter(|tag| !is_made(tag)).map(on_tag));
            let (on_entry, made, others) = if tags.iter().any(|tag| is_made(&tag)) {
                let (on_entry, made) = join(on_entry, made).await;
                (on_entry, made, others().await)
            } else {
                let (on_entry, others) = join(on_entry, others()).await;
                (on_entry, Vec::new(), others)
            };
            let mut all = on_entry?.unwrap_or(Joint { entry: None, versions: Vec::new(), is_fenced: false });
            let (mut made, mut others) = (made.into_iter(), others.into_iter());
            for tag in &tags {
                let Some(tag) = (if is_made(&tag) { made.next() } else { others.next() }) else { break };
                let tag = tag?;
                all.versions.extend(tag.versions);
                all.is_fenced |= tag.is_fenced;
            }
            Ok(all)
        })
    }

    fn track(&self, keeper: Arc<dyn Keeper>) {
        self.fleet.choir.tell(keeper);
    }

    fn acquire<'a>(&'a self, key: &'a str, lease: Bytes, life: Duration) -> Reply<'a, Option<Bytes>> {
        gated!(self, key, |store| store.acquire(key, lease.clone(), life))
    }

    fn swap<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        value: Bytes,
        life: Option<Duration>,
    ) -> Reply<'a, bool> {
        gated!(self, key, |store| store.swap(key, seen, value.clone(), life))
    }

    fn stamp<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        head: Bytes,
        most: Option<Duration>,
    ) -> Reply<'a, bool> {
        gated!(self, key, |store| store.stamp(key, seen, head.clone(), most))
    }

    fn extend<'a>(&'a self, key: &'a str, seen: Prefix, life: Duration) -> Reply<'a, bool> {
        gated!(self, key, |store| store.extend(key, seen, life))
    }

    fn release<'a>(&'a self, key: &'a str, seen: Prefix) -> Reply<'a, bool> {
        Box::pin(async move { route!(&self.fleet, key, |store| store.release(key, seen)) })
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, life: Option<Duration>) -> Reply<'a, ()> {
        gated!(self, key, |store| store.set(key, value.clone(), life))
    }

    fn remove<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        Box::pin(async move { route!(&self.fleet, key, |store| store.remove(key)) })
    }

    fn fence<'a>(&'a self, key: &'a str, token: Prefix, life: Duration) -> Reply<'a, ()> {
        Box::pin(async move { route!(&self.fleet, key, |store| store.fence(key, token, life)) })
    }

    fn unfence<'a>(&'a self, key: &'a str, token: Prefix) -> Reply<'a, ()> {
        Box::pin(async move { route!(&self.fleet, key, |store| store.unfence(key, token)) })
    }

    fn remove_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, u64> {
        Box::pin(async move {
            let Some((first, others)) = keys.split_first() else { return Ok(0) };
            let key = std::slice::from_ref(first);
            let removed = route!(&self.fleet, first, |store| store.remove_each(key))?;
            let first: u64 = removed.into_iter().sum();
            let removed = self.each(
                others,
                |node, keys| Box::pin(node.store.remove_each(keys)),
                |store, key| {
                    Box::pin(async move {
                        let key = [key.to_owned()];
                        let removed = route!(&store.fleet, &key[0], |store| store.remove_each(&key))?;
                        Ok(removed.into_iter().sum())
                    })
                },
            );
            Ok(first + removed.await?.into_iter().sum::<u64>())
        })
    }

    fn remove_matching<'a>(&'a self, glob: &'a str, reach: Reach) -> Reply<'a, u64> {
        Box::pin(self.fleet.remove_matching(glob, reach))
    }

    fn get_each<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Bytes>> {
        Box::pin(self.each_by_itself(
            keys,
            |node, keys| node.store.get_each(keys),
            |store, key| store.get(key),
        ))
    }

    fn get_each_aged<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Aged>> {
        Box::pin(self.each_by_itself(
            keys,
            |node, keys| node.store.get_each_aged(keys),
            |store, key| store.get_aged(key),
        ))
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            keys.iter().try_for_each(|key| self.gate(key))?;
            self.each(keys, |node, keys| node.store.get_many(keys), |store, key| store.get(key)).await
        })
    }

    fn get_many_aged<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Aged>>> {
        Box::pin(async move {
            keys.iter().try_for_each(|key| self.gate(key))?;
            self.each(keys, |node, keys| node.store.get_many_aged(keys), |store, key| store.get_aged(key))
                .await
        })
    }

    fn set_many(&self, pairs: Vec<(String, Bytes)>, life: Option<Duration>) -> Reply<'_, ()> {
        Box::pin(async move {
            pairs.iter().try_for_each(|(key, _)| self.gate(key))?;
            let groups = self.by_node(pairs.iter().map(|(key, _)| key.as_str())).await?;
            let each = groups.iter().map(|(node, places)| {
                let own = places.iter().map(|place| pairs[*place].clone()).collect();
                asked(&self.fleet, node, node.store.set_many(own, life))
            });
            for (reply, (_, places)) in join_all(each).await.into_iter().zip(&groups) {
                match reply {
                    // Some may have been set: once more does no harm.
                    Err(error) if redirect(&error).is_some() => {
                        let alone = places.iter().map(|place| {
                            let (key, value) = &pairs[*place];
                            self.set(key, value.clone(), life)
                        });
                        join_all(alone).await.into_iter().collect::<Result<(), _>>()?;
                    }
                    done => done?,
                }
            }
            Ok(())
        })
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, life: Option<Duration>) -> Reply<'a, i64> {
        gated!(self, key, |store| store.increment(key, by, life))
    }

    fn admit<'a>(&'a self, key: &'a str, limit: Limit) -> Reply<'a, Decision> {
        gated!(self, key, |store| store.admit(key, limit))
    }

    fn sessions<'a>(&'a self, key: &'a str, act: Act, lives: Lives) -> Reply<'a, Vec<Found>> {
        gated!(self, key, |store| store.sessions(key, act.clone(), lives))
    }

    fn expire<'a>(&'a self, key: &'a str, life: Option<Duration>) -> Reply<'a, bool> {
        gated!(self, key, |store| store.expire(key, life))
    }

    fn expiry<'a>(&'a self, key: &'a str) -> Reply<'a, (Expiry, bool)> {
        gated!(self, key, |store| store.expiry(key))
    }

    fn queue(&self, base: &str) -> Arc<dyn Queue> {
        let make = || Arc::new(ClusterQueue::new(base, Arc::clone(&self.fleet)));
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::<ClusterQueue>::clone(queues.entry(base.to_owned()).or_insert_with(make))
    }

    fn ping(&self) -> Reply<'_, ()> {
        Box::pin(async move {
            let primaries = self.fleet.map().await?.primaries();
            let pings = join_all(primaries.iter().map(|(node, _)| node.store.ping())).await;
            pings.into_iter().collect::<Result<(), _>>().inspect_err(|_| self.fleet.doubt())
        })
    }

    fn distrust(&self, why: &'static str) {
        self.fleet.distrust(why);
    }

    fn invalidation_waits(&self) {
        self.fleet.call();
    }

    fn connection(&self) -> Option<Connecting<'_>> {
        Some(Box::pin(self.pool.get()))
    }

    fn close(&self) {
        self.fleet.close();
        self.pool.close();
    }
}
