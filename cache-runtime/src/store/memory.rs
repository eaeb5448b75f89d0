//! The embedded store: bytes in this process, bounded, with times to live.
//!
//! Nothing here waits: every operation runs under its shard's lock, at the first poll of its reply,
//! and needs no runtime. An entry that doesn't fit is as if it had been evicted at once: it isn't
//! kept, and neither is what it was to replace.

mod queue;
mod shard;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use self::queue::MemoryQueue;
use self::shard::{Shard, Slot};
use super::joint::{Done, How, Joint, OnEntry, OnTag, Seen, Sighted, is_fence, version_of};
use super::queue::Queue;
use super::sessions::{Act, Found, Lives};
use super::{ALWAYS, Aged, Decision, Each, Expiry, Keeper, Limit, Reach, Reply, Store, Tracked, fresh_for};
use crate::record::{self, Prefix};

/// Small shards couldn't hold large values: a quarter of the smallest store we recommend (64 MiB).
const SHARD_BYTES: u64 = 16 << 20;
const MOST_SHARDS: u64 = 16;

/// The store in this process.
pub(crate) struct MemoryStore {
    slots: Slots,
    queues: Mutex<HashMap<String, Arc<MemoryQueue>>>,
}

/// What is under all keys, for the store and its queues.
#[derive(Clone)]
struct Slots {
    // std mutexes: never held across an await
    shards: Arc<[Mutex<Shard>]>,
    seed: RandomState,
}

impl Slots {
    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let hash = self.seed.hash_one(key) >> 32;
        let shard = (hash * self.shards.len() as u64) >> 32;
        #[allow(clippy::cast_possible_truncation)] // below `shards.len()`
        lock(&self.shards[shard as usize])
    }
}

impl MemoryStore {
    /// An empty store that holds at most so many bytes of keys, values and what they cost.
    pub(crate) fn new(bytes: u64) -> Self {
        let shards = (bytes / SHARD_BYTES).clamp(1, MOST_SHARDS);
        let shards = (0..shards).map(|_| Mutex::new(Shard::new(bytes / shards))).collect();
        Self { slots: Slots { shards, seed: RandomState::new() }, queues: Mutex::default() }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        self.slots.shard(key)
    }
}

impl MemoryStore {
    /// What is there then, if that was asked.
    #[allow(clippy::option_option)]
    fn on_tag(&self, tag: OnTag, is_fenced: &mut bool) -> Option<Option<Seen>> {
        let (OnTag::Create { key, .. } | OnTag::Read { key } | OnTag::Keep { key, .. }) = &tag;
        let mut shard = self.shard(key);
        let there = shard.live(key);
        let seen = |slot: &Slot| Some(Seen { version: version_of(&slot.value)?, left: slot.left() });
        *is_fenced |= there.as_ref().is_some_and(|slot| is_fence(&slot.value));
        match (tag, there) {
            (OnTag::Create { .. } | OnTag::Read { .. }, Some(slot)) => Some(seen(&slot)),
            (OnTag::Create { key, version, life }, None) => {
                let slot = Slot::new(Bytes::copy_from_slice(&version), Some(life));
                let seen = seen(&slot);
                shard.put(&key, slot);
                Some(seen)
            }
            (OnTag::Read { .. }, None) => Some(None),
            (OnTag::Keep { key, life }, Some(slot)) => {
                let longer = Slot::new(slot.value.clone(), life);
                let is_version = version_of(&slot.value).is_some();
                if is_version && slot.end.is_some() && longer.end.is_none_or(|end| Some(end) > slot.end) {
                    shard.put(&key, longer);
                }
                None
            }
            (OnTag::Keep { .. }, None) => None,
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("shards", &self.slots.shards.len()).finish_non_exhaustive()
    }
}

/// Runs `act` when the reply is first polled, as a command that is sent then would.
fn reply<'a, T: 'a>(act: impl FnOnce() -> T + Send + 'a) -> Reply<'a, T> {
    Box::pin(async move { Ok(act()) })
}

impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        reply(move || Some(self.shard(key).live(key)?.value))
    }

    fn get_aged<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Aged>> {
        reply(move || {
            let slot = self.shard(key).live(key)?;
            let left = slot.left();
            Some((slot.value, left))
        })
    }

    fn get_tracked<'a>(&'a self, key: &'a str) -> Reply<'a, Tracked> {
        let aged = self.get_aged(key);
        Box::pin(async move { Ok(Tracked { found: aged.await?, may_keep: true }) })
    }

    fn sight<'a>(&'a self, key: Option<&'a str>, tags: &'a [String], _: How) -> Reply<'a, Sighted> {
        reply(move || {
            let live = |key: &str| self.shard(key).live(key);
            let entry = key.and_then(live).map(|slot| {
                let left = slot.left();
                (slot.value, left)
            });
            let versions = tags.iter().map(|tag| version_of(&live(tag)?.value)).collect();
            Sighted { entry, versions, may_keep: true }
        })
    }

    fn flush<'a>(&'a self, entry: Option<(&'a str, OnEntry)>, tags: Vec<OnTag>) -> Reply<'a, Joint> {
        Box::pin(async move {
            let entry = match entry {
                None => None,
                Some((key, OnEntry::Acquire { lease, life })) => {
                    Some(self.acquire(key, lease, life).await.map(Done::Found))
                }
                Some((key, OnEntry::Swap { seen, value, life })) => {
                    Some(self.swap(key, seen, value, life).await.map(Done::Did))
                }
                Some((key, OnEntry::Stamp { seen, head, most })) => {
                    Some(self.stamp(key, seen, head, most).await.map(Done::Did))
                }
            };
            let mut is_fenced = false;
            let versions = tags.into_iter().filter_map(|tag| self.on_tag(tag, &mut is_fenced)).collect();
            Ok(Joint { entry, versions, is_fenced })
        })
    }

    /// Nobody else writes here, and who writes tells the keeper.
    fn track(&self, keeper: Arc<dyn Keeper>) {
        keeper.connected(ALWAYS);
    }

    fn acquire<'a>(&'a self, key: &'a str, lease: Bytes, life: Duration) -> Reply<'a, Option<Bytes>> {
        reply(move || {
            let mut shard = self.shard(key);
            if let Some(slot) = shard.live(key) {
                return Some(slot.value);
            }
            shard.put(key, Slot::new(lease, Some(life)));
            None
        })
    }

    fn swap<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        value: Bytes,
        life: Option<Duration>,
    ) -> Reply<'a, bool> {
        reply(move || {
            let mut shard = self.shard(key);
            let found = shard.seen(key, &seen).is_some();
            if found {
                shard.put(key, Slot::new(value, life));
            }
            found
        })
    }

    fn stamp<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        head: Bytes,
        most: Option<Duration>,
    ) -> Reply<'a, bool> {
        reply(move || {
            let mut shard = self.shard(key);
            let slot =
                shard.seen(key, &seen).filter(|slot| most.is_none_or(|most| slot.left() <= Some(most)));
            let Some(Slot { value, end }) = slot else {
                return false;
            };
            let rest = value.get(head.len()..).unwrap_or_default();
            let value = [&head, rest].concat().into();
            shard.put(key, Slot { value, end });
            true
        })
    }

    fn extend<'a>(&'a self, key: &'a str, seen: Prefix, life: Duration) -> Reply<'a, bool> {
        reply(move || {
            let mut shard = self.shard(key);
            let slot = shard.seen(key, &seen);
            slot.map(|slot| shard.put(key, Slot::new(slot.value, Some(life)))).is_some()
        })
    }

    fn release<'a>(&'a self, key: &'a str, seen: Prefix) -> Reply<'a, bool> {
        reply(move || {
            let mut shard = self.shard(key);
            shard.seen(key, &seen).and_then(|_| shard.take(key)).is_some()
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, life: Option<Duration>) -> Reply<'a, ()> {
        reply(move || self.shard(key).put(key, Slot::new(value, life)))
    }

    fn remove<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        reply(move || Some(self.shard(key).take(key)?.value))
    }

    fn fence<'a>(&'a self, key: &'a str, token: Prefix, life: Duration) -> Reply<'a, ()> {
        reply(move || self.shard(key).change_fence(key, &token, Some(life)))
    }

    fn unfence<'a>(&'a self, key: &'a str, token: Prefix) -> Reply<'a, ()> {
        reply(move || self.shard(key).change_fence(key, &token, None))
    }

    fn remove_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, u64> {
        reply(move || keys.iter().map(|key| u64::from(self.shard(key).take(key).is_some())).sum())
    }

    fn remove_matching<'a>(&'a self, glob: &'a str, reach: Reach) -> Reply<'a, u64> {
        let glob = glob.as_bytes();
        reply(move || self.slots.shards.iter().map(|shard| lock(shard).remove_matching(glob, reach)).sum())
    }

    fn get_each<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.get_many(keys).await?.into_iter().map(Ok).collect()) })
    }

    fn get_each_aged<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Aged>> {
        Box::pin(async move { Ok(self.get_many_aged(keys).await?.into_iter().map(Ok).collect()) })
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Bytes>>> {
        reply(move || keys.iter().map(|key| Some(self.shard(key).live(key)?.value)).collect())
    }

    fn get_many_aged<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Aged>>> {
        reply(move || {
            let aged = |slot: Slot| {
                let left = slot.left();
                (slot.value, left)
            };
            keys.iter().map(|key| self.shard(key).live(key).map(aged)).collect()
        })
    }

    fn set_many(&self, pairs: Vec<(String, Bytes)>, life: Option<Duration>) -> Reply<'_, ()> {
        reply(move || {
            for (key, value) in pairs {
                self.shard(&key).put(&key, Slot::new(value, life));
            }
        })
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, life: Option<Duration>) -> Reply<'a, i64> {
        Box::pin(async move { self.shard(key).increment(key, by, life) })
    }

    fn admit<'a>(&'a self, key: &'a str, limit: Limit) -> Reply<'a, Decision> {
        Box::pin(async move { self.shard(key).admit(key, limit) })
    }

    fn sessions<'a>(&'a self, key: &'a str, act: Act, lives: Lives) -> Reply<'a, Vec<Found>> {
        Box::pin(async move { self.shard(key).sessions(key, act, lives) })
    }

    fn expire<'a>(&'a self, key: &'a str, life: Option<Duration>) -> Reply<'a, bool> {
        reply(move || {
            let mut shard = self.shard(key);
            let slot = shard.live(key);
            slot.map(|slot| shard.put(key, Slot::new(slot.value, life))).is_some()
        })
    }

    fn expiry<'a>(&'a self, key: &'a str) -> Reply<'a, (Expiry, bool)> {
        reply(move || match self.shard(key).live(key) {
            Some(slot) if record::is_value(&slot.value) => {
                (fresh_for(&slot.value, slot.left()), record::has_tags(&slot.value))
            }
            _ => (Expiry::Missing, false),
        })
    }

    fn queue(&self, base: &str) -> Arc<dyn Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(MemoryQueue::new(base, self.slots.clone()));
        Arc::<MemoryQueue>::clone(queues.entry(base.to_owned()).or_insert_with(new))
    }

    fn ping(&self) -> Reply<'_, ()> {
        reply(|| ())
    }
}

#[cfg(test)]
mod tests;
