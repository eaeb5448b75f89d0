//! A durable queue of writes to a database, as a store keeps it.
//!
//! A write goes to the shard that its order key chooses, and a shard belongs to one worker at a time, for as
//! long as the worker says so: whatever a worker asks of a shard that isn't its own any more is refused. So
//! writes of one order key are handed over in their order. Nothing leaves a queue before it is settled or
//! buried.
//!
//! What is pending: an entry of the cache that was stored together with a write which hasn't been applied
//! yet. The queue keeps a copy, so that nobody brings back the old row when the entry is gone.

#[cfg(test)]
pub(crate) mod conformance;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use super::Reply;
use crate::error::CacheError;

/// What a queue holds at most, and into how many shards it is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Whoever asks first decides: while the queue exists, any other number is ignored, and that is said once.
    pub(crate) shards: u32,
    /// Writes that aren't settled.
    pub(crate) capacity: u64,
    /// Dead letters.
    pub(crate) letters: u64,
}

/// A write on its way into the queue.
#[derive(Debug)]
pub(crate) struct NewWrite<'a> {
    pub(crate) kind: &'a str,
    pub(crate) order_key: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) entries: &'a [NewEntry],
    /// Whether it is to be on the server's disk before the reply.
    pub(crate) synced: bool,
}

/// An entry that is stored in the same step.
#[derive(Debug, Clone)]
pub(crate) struct NewEntry {
    /// With the namespace.
    pub(crate) key: String,
    /// A record or plain JSON. It takes the place of whatever is there; but of a fence it doesn't, and a value
    /// of a newer `version`, or of a newer format, is removed instead. Without one, whatever is there is
    /// removed, but for a fence.
    pub(crate) value: Option<Bytes>,
    /// Of the value.
    pub(crate) life: Option<Duration>,
    /// What [`pending`](Queue::pending) gives back until the write is settled: opaque here.
    pub(crate) copy: Bytes,
}

/// What became of a new write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// Its number: larger than that of any write of this queue before it, also after the queue was lost (it
    /// is the server's time in microseconds, or the last number plus one if that is larger). Below 2^53.
    At(u64),
    /// There is no room. Nothing was changed.
    Full,
}

/// A write that is handed to a worker.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The place in its shard, for the store.
    pub(crate) id: String,
    /// The number that [`append`](Queue::append) gave it; a replayed letter keeps its own.
    pub(crate) seq: u64,
    pub(crate) kind: String,
    pub(crate) order_key: String,
    pub(crate) payload: Bytes,
    /// The keys of the entries that were stored with it.
    pub(crate) entries: Vec<String>,
    /// How often it was handed over, this time included: 1 for the first.
    pub(crate) deliveries: u32,
    /// How long ago it was appended, by the store's clock.
    pub(crate) age: Duration,
}

/// A shard as a worker has it, from when it took it until it loses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) shard: u32,
    /// Another one each time that the shard is taken: who had it before and has it again must recover what
    /// others were handed meanwhile.
    pub(crate) number: u64,
}

/// Which shards a worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenure {
    /// Its own, for a lease from now on.
    pub(crate) shards: Vec<Term>,
    /// How many are its share at most: it is to release what it has beyond that.
    pub(crate) share: usize,
}

/// What became of a write that is to be a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buried {
    Done,
    /// There is no room for one more: it stays where it is.
    Full,
    /// The shard belongs to another worker.
    Lost,
}

/// A write that was given up.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    /// Its place among the letters, for the store.
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) kind: String,
    pub(crate) order_key: String,
    pub(crate) payload: Bytes,
    pub(crate) cause: String,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// How long ago it was appended.
    pub(crate) age: Duration,
}

/// What there is to say of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Writes that aren't settled, those that are being tried included.
    pub(crate) pending: u64,
    /// The age of the oldest of them.
    pub(crate) oldest: Option<Duration>,
    /// Dead letters.
    pub(crate) letters: u64,
    /// How often a write was tried again, by all workers since the queue was made.
    pub(crate) retries: u64,
    /// Workers that have given a sign of life within a lease.
    pub(crate) workers: u64,
}

/// Whether a server will do, sooner or later.
pub(crate) type Checking<'a> = Pin<Box<dyn Future<Output = Result<(), CacheError>> + Send + 'a>>;

/// A queue of one name. Whatever names a worker and a term answers `None`, `false` or `Lost` if that isn't the
/// shard's term any more, and then has changed nothing.
///
/// Cancel: a reply that is dropped may have been carried out.
pub(crate) trait Queue: Debug + Send + Sync + 'static {
    /// Refuses a store that would lose writes: `CacheError::Settings` says why and what to change.
    fn check(&self, synced: bool) -> Checking<'_>;

    /// Waits until the store can be asked. After an error nothing was asked of it.
    fn reach(&self) -> Reply<'_, ()>;

    /// Appends the write, stores its entries and marks them as pending, in one step.
    ///
    /// An error of the kind `Timeout` or `Unavailable` leaves open whether it was appended.
    fn append<'a>(&'a self, write: &'a NewWrite<'a>, limits: Limits) -> Reply<'a, Appended>;

    /// Gives up these terms, keeps the others for a lease from now on, and takes free ones up to its share:
    /// the number of shards divided by that of workers, rounded up.
    fn tend<'a>(
        &'a self,
        worker: &'a str,
        lease: Duration,
        release: &'a [Term],
        limits: Limits,
    ) -> Reply<'a, Tenure>;

    /// The worker goes: its shards are free at once.
    fn leave<'a>(&'a self, worker: &'a str) -> Reply<'a, ()>;

    /// The worker went without a word: what is kept for it here, a connection say, isn't needed. Nothing is sent.
    fn forget(&self, _worker: &str) {}

    /// What workers before this one were handed and haven't settled, in its order; none of it counts as
    /// handed over once more. To be asked before the first [`read`](Self::read).
    fn recover<'a>(&'a self, worker: &'a str, term: Term) -> Reply<'a, Option<Vec<Delivery>>>;

    /// The next writes, at most so many, and fewer where they are large; none if there are none. Nothing may be
    /// read that wasn't recovered before: it may answer `None` then.
    fn read<'a>(&'a self, worker: &'a str, term: Term, most: usize) -> Reply<'a, Option<Vec<Delivery>>>;

    /// Counts another delivery of a write that was recovered or has failed: to be called before it is tried
    /// again. `retry`: it has failed, so it counts as one in [`Figures`].
    fn again<'a>(&'a self, worker: &'a str, term: Term, id: &'a str, retry: bool) -> Reply<'a, bool>;

    /// These are applied: they leave the queue, in one step. An entry that is pending because of one of them
    /// isn't any more. It stays in the cache if it still begins with the first 20 bytes that
    /// [`append`](Self::append) stored; else, and where no write is pending for it (the write was replayed,
    /// say), whatever is there is removed, but for a fence: it may be the copy, which somebody brought back
    /// after an invalidation, or the lease of who is about to. One that a later write is pending for stays.
    fn settle<'a>(&'a self, worker: &'a str, term: Term, done: &'a [Delivery]) -> Reply<'a, bool>;

    /// Moves a write to the dead letters. Its entries, which say what the database never will, are removed,
    /// unless a later write is pending for them.
    fn bury<'a>(
        &'a self,
        worker: &'a str,
        term: Term,
        dead: &'a Delivery,
        cause: &'a str,
        limits: Limits,
    ) -> Reply<'a, Buried>;

    /// Waits until there may be something to [`read`](Self::read) in these shards since they were last read
    /// by this worker, or for this long.
    fn arrivals<'a>(&'a self, worker: &'a str, shards: &'a [u32], patience: Duration) -> Reply<'a, ()>;

    /// The copy of the entry that the last write which isn't settled stored under this key.
    fn pending<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>>;

    /// What there is to say of it.
    fn figures(&self) -> Reply<'_, Figures>;

    /// The oldest dead letters.
    fn letters(&self, most: usize) -> Reply<'_, Vec<Letter>>;

    /// Puts a dead letter at the end of its shard, as a write that was never handed over, with the number it
    /// had. False if there is no such letter any more.
    fn replay<'a>(&'a self, letter: &'a Letter, limits: Limits) -> Reply<'a, bool>;

    /// Forgets a dead letter. False if there is no such letter any more.
    fn discard<'a>(&'a self, letter: &'a str) -> Reply<'a, bool>;
}

/// The shard of an order key, the same in every process and build.
pub(crate) fn shard_of(order_key: &str, shards: u32) -> u32 {
    let hash = blake3::hash(order_key.as_bytes());
    let first = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"));
    u32::try_from(first % u64::from(shards.max(1))).expect("below a u32")
}

/// Whether this is a key of a queue: its writes were acknowledged, so no glob removes it. A namespace has no
/// `:`, and templates escape the brace, so no key that is made from values looks like one.
pub(crate) fn is_queue_key(key: &[u8]) -> bool {
    let begins = |key: &[u8]| key.starts_with(b"@writes:{");
    let rest = key.iter().position(|byte| *byte == b':').map(|at| &key[at + 1..]);
    begins(key) || rest.is_some_and(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_queues_are_told_from_others() {
        for key in ["@writes:{q}:s0", "shop:@writes:{q}:meta", "@writes:{"] {
            assert!(is_queue_key(key.as_bytes()), "{key}");
        }
        for key in
            ["", ":", "@writes:q", "user:1", "shop:user:@writes:{q}", "x@writes:{q}", "@tags", "@writes"]
        {
            assert!(!is_queue_key(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn shards_of_order_keys_never_change() {
        assert_eq!(["", "1", "user:42"].map(|key| shard_of(key, 8)), [7, 6, 4]);
        assert_eq!(shard_of("1", 0), 0);
    }
}
