//! The seam between the protocol and where bytes are kept.
//!
//! A store knows keys, bytes, times to live and the 20-byte prefix of a record (`record.rs`); it
//! knows nothing of policies, types or flights. Every operation is atomic for its key.

mod fence;
mod glob;
pub(crate) mod joint;
mod memory;
pub(crate) mod queue;
mod redis;
pub(crate) mod sessions;
mod watched;
mod window;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use glob::{Reach, escape_literal, has_meta, may_share};
pub(crate) use memory::MemoryStore;
pub use redis::RedisConnection;
pub(crate) use redis::{ClusterStore, Deployment, LinkOptions, Part, RedisStore};
pub(crate) use watched::Watched;
pub use window::Decision;
pub(crate) use window::Limit;

use self::joint::{How, Joint, OnEntry, OnTag, Sighted};
use self::queue::Queue;
use self::sessions::{Act, Found, Lives};
use crate::error::{CacheError, StoreError};
use crate::record::{self, Prefix};

/// What an operation of a store gives back, sooner or later.
pub(crate) type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What becomes of each of some operations that were sent together, in their order.
pub(crate) type Each<'a, T> = Reply<'a, Vec<Result<T, StoreError>>>;

/// A connection of the server's pool, sooner or later.
pub(crate) type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<RedisConnection, CacheError>> + Send + 'a>>;

/// What is left of an entry's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// There is no such key.
    Missing,
    /// The key never expires.
    Never,
    /// The key expires after this time.
    In(Duration),
}

/// How much longer a value that begins with these bytes is fresh, when so much of its key's life is left.
pub(crate) fn fresh_for(head: &[u8], left: Option<Duration>) -> Expiry {
    let grace = record::grace(head);
    match left {
        None => Expiry::Never,
        Some(left) if grace.is_zero() => Expiry::In(left),
        Some(left) => match left.checked_sub(grace) {
            Some(fresh) if !fresh.is_zero() => Expiry::In(fresh),
            _ => Expiry::Missing,
        },
    }
}

/// A value and what is left of its life; none: it never ends, or that isn't known.
pub(crate) type Aged = (Bytes, Option<Duration>);

/// What was read for who keeps it in this process.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) found: Option<Aged>,
    /// Whether the keeper hears when it changes, or knows for how long it does without.
    pub(crate) may_keep: bool,
}

/// The time that a store in this process gives as [`connected`](Keeper::connected): it never goes away.
pub(crate) const ALWAYS: u64 = u64::MAX;

/// Who keeps what was read with [`get_tracked`](Store::get_tracked), and hears what became of it.
///
/// `sent` is by [`clock::coarse`](crate::clock::coarse). What `sent` stands for: whatever was invalidated
/// before it, the keeper has been told of.
///
/// Whatever doesn't name a key is called in order, under a lock: it must be quick, and never ask the
/// store. After `connected` comes `disconnected`, and then `connected` or `without_tracking`.
pub(crate) trait Keeper: Send + Sync + 'static {
    /// This key has changed, or is no longer watched. A reply that came after this is newer.
    fn forget(&self, key: &[u8]);

    /// Any key may have changed.
    fn forget_all(&self);

    /// Of these keys nobody tells any more.
    fn forget_those(&self, those: &dyn Fn(&[u8]) -> bool);

    /// What is read from now on is watched.
    fn connected(&self, sent: u64);

    /// It still is: later than an earlier `sent`, or as late.
    fn alive(&self, sent: u64);

    /// Nobody watches any more what has been read: nothing of it may be used.
    fn disconnected(&self);

    /// This server can't watch: what is read from now on may be kept for at most delta from before it was
    /// asked for.
    fn without_tracking(&self);

    /// Something has ended that may have left much to be dropped. Called under no lock.
    fn sweep(&self) {}
}

/// Where bytes are kept.
///
/// Times to live are at least one millisecond; a `None` life never expires. Globs have the
/// meaning that Redis gives them, over bytes.
pub(crate) trait Store: Debug + Send + Sync + 'static {
    /// Its name for people: `embedded`, `redis`.
    fn name(&self) -> &'static str;

    /// The bytes under `key`.
    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>>;

    /// What was left of the life of `key`, and then the bytes under it, in one round trip: the life is
    /// never longer than that of these bytes.
    fn get_aged<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Aged>>;

    /// As [`get_aged`](Self::get_aged), for the keeper, whose ticket was made before this is polled. That
    /// it was [`overdue`](Self::overdue) the store finds out by itself.
    fn get_tracked<'a>(&'a self, key: &'a str) -> Reply<'a, Tracked>;

    /// What is under `key`, and the versions under the keys of tags, in one flush.
    fn sight<'a>(&'a self, key: Option<&'a str>, tags: &'a [String], how: How) -> Reply<'a, Sighted>;

    /// Changes an entry, and makes or reads versions of tags, in one flush that is never sent twice.
    fn flush<'a>(&'a self, entry: Option<(&'a str, OnEntry)>, tags: Vec<OnTag>) -> Reply<'a, Joint>;

    /// Tells `keeper` from now on what becomes of the keys that are read for it. The first one stays.
    fn track(&self, keeper: Arc<dyn Keeper>);

    /// Puts `lease` under `key` if nothing is there; gives back what was there.
    fn acquire<'a>(&'a self, key: &'a str, lease: Bytes, life: Duration) -> Reply<'a, Option<Bytes>>;

    /// Replaces the whole value if the one there starts with `seen`. True if it did.
    fn swap<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        value: Bytes,
        life: Option<Duration>,
    ) -> Reply<'a, bool>;

    /// Overwrites the head of the value if it starts with `seen`, and has no more than `most` to live;
    /// the rest and the life stay.
    fn stamp<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        head: Bytes,
        most: Option<Duration>,
    ) -> Reply<'a, bool>;

    /// Gives the key this life if its value starts with `seen`.
    fn extend<'a>(&'a self, key: &'a str, seen: Prefix, life: Duration) -> Reply<'a, bool>;

    /// Removes the key if its value starts with `seen`.
    fn release<'a>(&'a self, key: &'a str, seen: Prefix) -> Reply<'a, bool>;

    /// Sets the value, whatever was there.
    fn set<'a>(&'a self, key: &'a str, value: Bytes, life: Option<Duration>) -> Reply<'a, ()>;

    /// Removes the key, whatever it holds (a lease too); gives back the first bytes of what was
    /// there, at least a record's prefix if it was that long.
    fn remove<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>>;

    /// Puts up a fence of this token for so long, beside those of others, in the place of whatever else is
    /// there.
    fn fence<'a>(&'a self, key: &'a str, token: Prefix, life: Duration) -> Reply<'a, ()>;

    /// Takes this token's fence away; those of others stay. If it is the last one, the key goes, and so it
    /// does if anything else is there.
    fn unfence<'a>(&'a self, key: &'a str, token: Prefix) -> Reply<'a, ()>;

    /// Removes these keys; how many there were. The first is gone before any other is.
    fn remove_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, u64>;

    /// Removes every key that fits the glob, where a `*` reaches so far; how many there were.
    fn remove_matching<'a>(&'a self, glob: &'a str, reach: Reach) -> Reply<'a, u64>;

    /// As [`get`](Self::get), for each of these keys, in one flush.
    fn get_each<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Bytes>>;

    /// As [`get_aged`](Self::get_aged), for each of these keys, in one flush.
    fn get_each_aged<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Aged>>;

    /// The values of these keys, in their order.
    fn get_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Bytes>>>;

    /// The values of these keys, in their order, each with what was left of its life just before.
    fn get_many_aged<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Aged>>>;

    /// Sets these keys in one round trip.
    fn set_many(&self, pairs: Vec<(String, Bytes)>, life: Option<Duration>) -> Reply<'_, ()>;

    /// Adds to the decimal integer under `key` (absent counts as 0) and gives the sum. `life` is
    /// given to the key only when this call made it, or when it has none.
    fn increment<'a>(&'a self, key: &'a str, by: i64, life: Option<Duration>) -> Reply<'a, i64>;

    /// Counts one more call under `key`, by the store's clock, if the limit allows it; then the key lives
    /// for a window from now on. A call beyond the limit changes nothing.
    fn admit<'a>(&'a self, key: &'a str, limit: Limit) -> Reply<'a, Decision>;

    /// What is asked of the sessions under `key`, by the store's clock: those that were there. Who deletes
    /// the key ends them all.
    fn sessions<'a>(&'a self, key: &'a str, act: Act, lives: Lives) -> Reply<'a, Vec<Found>>;

    /// Gives the key this life; none: it never expires. False if there is no such key.
    fn expire<'a>(&'a self, key: &'a str, life: Option<Duration>) -> Reply<'a, bool>;

    /// How much longer the value is fresh; a lease is no value, and neither is one past its time. And
    /// whether it has tags, which may say otherwise.
    fn expiry<'a>(&'a self, key: &'a str) -> Reply<'a, (Expiry, bool)>;

    /// The queue whose keys begin so, namespace included; the same one for all who ask.
    fn queue(&self, base: &str) -> Arc<dyn Queue>;

    /// Whether the store answers.
    fn ping(&self) -> Reply<'_, ()>;

    /// Whether answers cross a network, so that callers need a limit to their patience.
    fn is_remote(&self) -> bool {
        false
    }

    /// A caller's patience ended before an answer came.
    fn overdue(&self) {}

    /// An answer wasn't to the question: before anything else is answered, the connection is made anew.
    fn distrust(&self, _why: &'static str) {}

    /// An invalidation is kept: what it is about isn't answered before it was carried out.
    fn invalidation_waits(&self) {}

    /// A connection of its own, if the store is a server.
    fn connection(&self) -> Option<Connecting<'_>> {
        None
    }

    /// Gives up its connections for good.
    fn close(&self) {}
}
