//! A store whose changes are told to who keeps decoded values of it (`near.rs`).
//!
//! What this process changes is forgotten before it is sent *and* after the reply. Before, because a
//! caller that is dropped in between has sent it all the same. After, because of what was read and kept
//! meanwhile: it may be older than the change. What was read and isn't kept yet finds its ticket dirty.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::joint::{How, Joint, OnEntry, OnTag, Sighted};
use super::queue::Queue;
use super::sessions::{Act, Found, Lives};
use super::{Aged, Connecting, Decision, Each, Expiry, Keeper, Limit, Reach, Reply, Store, Tracked};
use crate::near::Near;
use crate::record::Prefix;

/// A store, and who is told.
#[derive(Debug)]
pub(crate) struct Watched {
    store: Box<dyn Store>,
    near: Arc<Near>,
}

impl Watched {
    pub(crate) fn new(store: Box<dyn Store>, near: Arc<Near>) -> Self {
        Self { store, near }
    }

    /// A change of these keys.
    fn change<'a, T: 'a>(
        &'a self,
        keys: impl Fn(&mut dyn FnMut(&[u8])) + Send + 'a,
        change: Reply<'a, T>,
    ) -> Reply<'a, T> {
        Box::pin(async move {
            keys(&mut |key| self.near.forget(key));
            let reply = change.await;
            keys(&mut |key| self.near.forget(key));
            reply
        })
    }

    fn change_one<'a, T: 'a>(&'a self, key: &'a str, change: Reply<'a, T>) -> Reply<'a, T> {
        self.change(move |forget| forget(key.as_bytes()), change)
    }
}

impl Store for Watched {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        self.store.get(key)
    }

    fn get_aged<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Aged>> {
        self.store.get_aged(key)
    }

    fn get_tracked<'a>(&'a self, key: &'a str) -> Reply<'a, Tracked> {
        self.store.get_tracked(key)
    }

    fn sight<'a>(&'a self, key: Option<&'a str>, tags: &'a [String], how: How) -> Reply<'a, Sighted> {
        self.store.sight(key, tags, how)
    }

    fn flush<'a>(&'a self, entry: Option<(&'a str, OnEntry)>, tags: Vec<OnTag>) -> Reply<'a, Joint> {
        match entry {
            Some((key, OnEntry::Swap { .. })) => self.change_one(key, self.store.flush(entry, tags)),
            // The value stays, and so does every version that is there.
            _ => self.store.flush(entry, tags),
        }
    }

    fn track(&self, keeper: Arc<dyn Keeper>) {
        self.store.track(keeper);
    }

    fn acquire<'a>(&'a self, key: &'a str, lease: Bytes, life: Duration) -> Reply<'a, Option<Bytes>> {
        // Where nothing is any more (evicted, say), what was there may still be kept, and this may be a
        // value: see `Commands::put`.
        self.change_one(key, self.store.acquire(key, lease, life))
    }

    fn swap<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        value: Bytes,
        life: Option<Duration>,
    ) -> Reply<'a, bool> {
        self.change_one(key, self.store.swap(key, seen, value, life))
    }

    fn stamp<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        head: Bytes,
        most: Option<Duration>,
    ) -> Reply<'a, bool> {
        // The value stays.
        self.store.stamp(key, seen, head, most)
    }

    fn extend<'a>(&'a self, key: &'a str, seen: Prefix, life: Duration) -> Reply<'a, bool> {
        self.store.extend(key, seen, life)
    }

    fn release<'a>(&'a self, key: &'a str, seen: Prefix) -> Reply<'a, bool> {
        self.change_one(key, self.store.release(key, seen))
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, life: Option<Duration>) -> Reply<'a, ()> {
        self.change_one(key, self.store.set(key, value, life))
    }

    fn remove<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        self.change_one(key, self.store.remove(key))
    }

    fn fence<'a>(&'a self, key: &'a str, token: Prefix, life: Duration) -> Reply<'a, ()> {
        self.change_one(key, self.store.fence(key, token, life))
    }

    fn unfence<'a>(&'a self, key: &'a str, token: Prefix) -> Reply<'a, ()> {
        self.change_one(key, self.store.unfence(key, token))
    }

    fn remove_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, u64> {
        let each = move |forget: &mut dyn FnMut(&[u8])| keys.iter().for_each(|key| forget(key.as_bytes()));
        self.change(each, self.store.remove_many(keys))
    }

    fn remove_matching<'a>(&'a self, glob: &'a str, reach: Reach) -> Reply<'a, u64> {
        Box::pin(async move {
            let forget = || self.near.forget_matching(|key| reach.fits(glob.as_bytes(), key));
            forget();
            let reply = self.store.remove_matching(glob, reach).await;
            forget();
            reply
        })
    }

    fn get_each<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Bytes>> {
        self.store.get_each(keys)
    }

    fn get_each_aged<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Aged>> {
        self.store.get_each_aged(keys)
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Bytes>>> {
        self.store.get_many(keys)
    }

    fn get_many_aged<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Aged>>> {
        self.store.get_many_aged(keys)
    }

    fn set_many(&self, pairs: Vec<(String, Bytes)>, life: Option<Duration>) -> Reply<'_, ()> {
        let keys: Vec<String> = pairs.iter().map(|(key, _)| key.clone()).collect();
        let each = move |forget: &mut dyn FnMut(&[u8])| keys.iter().for_each(|key| forget(key.as_bytes()));
        self.change(each, self.store.set_many(pairs, life))
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, life: Option<Duration>) -> Reply<'a, i64> {
        self.change_one(key, self.store.increment(key, by, life))
    }

    fn admit<'a>(&'a self, key: &'a str, limit: Limit) -> Reply<'a, Decision> {
        self.change_one(key, self.store.admit(key, limit))
    }

    fn sessions<'a>(&'a self, key: &'a str, act: Act, lives: Lives) -> Reply<'a, Vec<Found>> {
        self.change_one(key, self.store.sessions(key, act, lives))
    }

    fn expire<'a>(&'a self, key: &'a str, life: Option<Duration>) -> Reply<'a, bool> {
        self.change_one(key, self.store.expire(key, life))
    }

    fn expiry<'a>(&'a self, key: &'a str) -> Reply<'a, (Expiry, bool)> {
        self.store.expiry(key)
    }

    fn queue(&self, base: &str) -> Arc<dyn Queue> {
        self.store.queue(base)
    }

    fn ping(&self) -> Reply<'_, ()> {
        self.store.ping()
    }

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }

    fn overdue(&self) {
        self.store.overdue();
    }

    fn distrust(&self, why: &'static str) {
        self.store.distrust(why);
    }

    fn invalidation_waits(&self) {
        self.store.invalidation_waits();
    }

    fn connection(&self) -> Option<Connecting<'_>> {
        self.store.connection()
    }

    fn close(&self) {
        self.store.close();
    }
}
