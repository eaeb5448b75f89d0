//! Write-behind: answer now, write to the database later, lose nothing.
//!
//! ```text
//! send      one append: the write, its entries, and their marks as pending     send.rs, entry.rs
//! tend      take shards for a lease, and begin a task for each                 workers.rs, roster.rs
//! listen    for arrivals, in all shards at once                                listener.rs
//! carry out one write after the other: try, settle, park what failed, bury     shard.rs, window.rs, crew.rs
//! ```
//!
//! What is durable is the queue's (`store/queue.rs`): who dies here has settled what is done, and the rest is
//! handed to another. So nothing in this room has to survive.

mod builder;
mod copy;
mod crew;
mod entry;
mod job;
mod letters;
mod listener;
mod roster;
mod send;
mod shard;
mod stats;
#[cfg(test)]
mod tests;
mod window;
mod workers;

use std::fmt::{self, Display};
use std::sync::Arc;

use serde::Serialize;

pub use self::builder::{Durability, WriteBehindBuilder};
pub use self::entry::{CacheEntry, cache_entry};
pub use self::job::Job;
pub use self::letters::DeadLetter;
pub use self::stats::QueueStats;
pub use self::workers::Workers;

pub(crate) use self::copy::PendingCopy;
use self::send::Shared;
use crate::cache::Cache;
use crate::error::CacheError;
use crate::policy::Ttl;

/// A queue of writes that workers carry out on the database, later.
///
/// [`send`](Self::send) returns when the queue has the write; [`Workers`] hand it to a handler, which writes to
/// the database. So the database may be slow or away, and the caller isn't.
///
/// What is promised once `send` has returned `Ok`:
///
/// - The write is handed to a handler until one returns `Ok`, or until it has failed so often that it becomes a
///   [`DeadLetter`]. That holds when any process is killed at any moment; when the server itself is, as far as
///   [`Durability`] says. With the embedded store the queue is lost with the process.
/// - It may be handed over more than once, so a handler must be able to see that: [`Job::seq`] grows, so write
///   `UPDATE .. SET .., seq = ? WHERE id = ? AND seq < ?`. The same comparison keeps out a worker that was
///   suspended in the middle of a write and goes on after others have written.
/// - Writes of one order key are handed over in the order in which they were sent, one at a time. Writes of
///   different order keys have no order. Of two `send`s that ran at the same time, either may be the first.
///
/// Writes that aren't settled are bounded by [`capacity`](WriteBehindBuilder::capacity): a full queue lets
/// `send` wait, and then fails it. Nothing is ever dropped to make room.
///
/// All of a queue is in one slot of a cluster, so one server carries it: what is too much for one server goes
/// into several queues. Cloning gives another handle to the same queue; so does making one of the same name.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::{Arc, Mutex};
/// use cache_runtime::{Cache, Job, WriteBehind};
///
/// let cache = Cache::builder().build()?;
/// let writes = WriteBehind::queue("user_writes").cache(&cache).build()?;
/// writes.send("rename", 42, "Ada").await?;
///
/// // Usually another process.
/// let names = Arc::new(Mutex::new(Vec::new()));
/// let left = writes
///     .workers(Arc::clone(&names))
///     .handle("rename", async |job: Job<String>, names: Arc<Mutex<Vec<String>>>| {
///         names.lock().unwrap().push(format!("{}: {}", job.order_key(), job.payload));
///         Ok::<_, std::io::Error>(())
///     })
///     .run_until(async {}) // until a signal; what is queued is drained then
///     .await?;
/// assert_eq!((left, &names.lock().unwrap()[..]), (0, &["42: Ada".to_owned()][..]));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct WriteBehind {
    shared: Arc<Shared>,
}

impl fmt::Debug for WriteBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { name, cache, options, .. } = &*self.shared;
        f.debug_struct("WriteBehind")
            .field("queue", name)
            .field("cache", cache)
            .field("options", options)
            .finish_non_exhaustive()
    }
}

impl WriteBehind {
    /// A queue of this name: 1 to 64 letters, digits, `_`, `.` or `-`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_runtime::{Cache, Durability, WriteBehind};
    ///
    /// let cache = Cache::builder().build()?;
    /// let writes = WriteBehind::queue("user_writes")
    ///     .cache(&cache)
    ///     .capacity(10_000)
    ///     .durability(Durability::Memory)
    ///     .patience(Duration::from_secs(1))
    ///     .build()?;
    /// assert_eq!(writes.name(), "user_writes");
    /// # Ok::<(), cache_runtime::CacheError>(())
    /// ```
    pub fn queue(name: impl Into<String>) -> WriteBehindBuilder {
        WriteBehindBuilder::new(name.into())
    }

    /// The name of the queue.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Puts a write into the queue; its number, which grows with each write of this queue, also after the queue
    /// was lost: microseconds since 1970 by the server's clock, or one more than the last if that is larger.
    /// It is below 2^53, so an `i64`, a `BIGINT` or a JSON number holds it.
    ///
    /// `kind` chooses the handler. Writes with one `order_key` are carried out in their order: usually it is
    /// the primary key of the row. `payload` is encoded as JSON.
    ///
    /// While the queue is full, or the server can't be reached, it waits for up to
    /// [`patience`](WriteBehindBuilder::patience). Inside [`deferred`](crate::deferred()) it is sent at once: a
    /// queue isn't part of a transaction.
    ///
    /// # Errors
    /// [`CacheError::QueueFull`] if there is no room; [`CacheError::Serialize`], [`CacheError::ValueTooLarge`]
    /// and [`CacheError::KeyTooLong`] (the order key); [`CacheError::Settings`] if the kind can't be used, or if
    /// the store would lose writes. Nothing was queued then.
    ///
    /// [`CacheError::Timeout`], [`CacheError::Unavailable`]: it may be queued or not. Sending it again is
    /// harmless: the second one has a higher number.
    ///
    /// # Cancel safety
    /// When it is dropped, the write may be queued or not.
    pub async fn send<P: Serialize + ?Sized>(
        &self,
        kind: &str,
        order_key: impl Display,
        payload: &P,
    ) -> Result<u64, CacheError> {
        let order_key = order_key.to_string();
        let payload = self.shared.encode(kind, &order_key, payload)?;
        Box::pin(self.shared.send(kind, &order_key, &payload, &[])).await
    }

    /// Stores this entry of the cache in the same step as the write that is sent with it. So readers see the new
    /// value when `send` returns, and the entries of one order key never stand in another order than its
    /// writes.
    ///
    /// Until the write is carried out, functions with `pending` get this value also when the entry is gone.
    /// When the write becomes a dead letter, the entry is removed.
    pub fn put(&self, entry: CacheEntry) -> Draft<'_> {
        self.draft().put(entry)
    }

    /// As [`put`](Self::put), for an entry as [`Cache::set`] stores it. The key is without the namespace.
    pub fn put_json<T: Serialize + ?Sized>(&self, key: &str, value: &T, ttl: impl Into<Ttl>) -> Draft<'_> {
        self.draft().put_json(key, value, ttl)
    }

    fn draft(&self) -> Draft<'_> {
        Draft { writes: self, entries: Ok(Vec::new()) }
    }

    /// Workers that carry out the writes of this queue. Each call of a handler gets a clone of `state`: a pool of
    /// connections, or `()`.
    pub fn workers<S: Clone + Send + Sync + 'static>(&self, state: S) -> Workers<S> {
        Workers::new(Arc::clone(&self.shared), state)
    }

    /// What there is to say of the queue now.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`], [`CacheError::Timeout`] or [`CacheError::Server`].
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn stats(&self) -> Result<QueueStats, CacheError> {
        Ok(self.shared.ask(self.shared.queue.figures()).await?.into())
    }

    /// The oldest dead letters, at most so many: writes that were given up.
    ///
    /// ```
    /// # async fn look(writes: cache_runtime::WriteBehind) -> Result<(), cache_runtime::CacheError> {
    /// for letter in writes.dead_letters(100).await? {
    ///     println!("{} {}: {}", letter.kind(), letter.seq(), letter.cause());
    ///     writes.replay(&letter).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`stats`](Self::stats).
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>, CacheError> {
        let letters = self.shared.ask(self.shared.queue.letters(most)).await?;
        Ok(letters.into_iter().map(DeadLetter::new).collect())
    }

    /// Puts a dead letter back into the queue, behind the writes that are there, with all its attempts before it
    /// and the number that it had: a handler that compares numbers leaves alone what was written since. False if
    /// somebody else has replayed or discarded it.
    ///
    /// It may make the queue hold more than its capacity.
    ///
    /// # Errors
    /// As [`stats`](Self::stats); after a `Timeout` or `Unavailable` it may be back or not.
    ///
    /// # Cancel safety
    /// When it is dropped, the letter may be back or not.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<bool, CacheError> {
        let Shared { queue, options, .. } = &*self.shared;
        Ok(self.shared.ask(queue.replay(letter.letter(), options.limits)).await?)
    }

    /// Forgets a dead letter for good. False if somebody else has replayed or discarded it.
    ///
    /// # Errors
    /// As [`stats`](Self::stats); after a `Timeout` or `Unavailable` it may be gone or not.
    ///
    /// # Cancel safety
    /// When it is dropped, the letter may be gone or not.
    pub async fn discard(&self, letter: &DeadLetter) -> Result<bool, CacheError> {
        Ok(self.shared.ask(self.shared.queue.discard(&letter.letter().id)).await?)
    }
}

/// A write that is sent together with entries of the cache, in one step.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cache_runtime::CacheError> {
/// use std::time::Duration;
/// use cache_runtime::{Cache, WriteBehind};
///
/// let cache = Cache::builder().build()?;
/// let writes = WriteBehind::queue("user_writes").cache(&cache).build()?;
/// let minute = Duration::from_secs(60);
/// writes.put_json("user:42", "Ada", minute).put_json("last", &42, minute).send("rename", 42, "Ada").await?;
/// assert_eq!(cache.get::<String>("user:42").await?.as_deref(), Some("Ada"));
/// # Ok(()) }
/// ```
#[must_use = "nothing is stored or queued before `send`"]
pub struct Draft<'a> {
    writes: &'a WriteBehind,
    entries: Result<Vec<CacheEntry>, CacheError>,
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("queue", &self.writes.name()).finish_non_exhaustive()
    }
}

impl Draft<'_> {
    /// With this entry as well: [`WriteBehind::put`].
    pub fn put(self, entry: CacheEntry) -> Self {
        self.with(|cache| {
            if entry.is_of(cache) {
                return Ok(entry);
            }
            Err(CacheError::Settings(
                "the entry belongs to another cache than the queue; name the function's cache in `WriteBehind::queue(..) \
                 .cache(..)`"
                    .to_owned(),
            ))
        })
    }

    /// With this entry as well: [`WriteBehind::put_json`].
    pub fn put_json<T: Serialize + ?Sized>(self, key: &str, value: &T, ttl: impl Into<Ttl>) -> Self {
        self.with(|cache| CacheEntry::json(cache, key, value, ttl.into()))
    }

    fn with(mut self, entry: impl FnOnce(&Cache) -> Result<CacheEntry, CacheError>) -> Self {
        self.entries = self.entries.and_then(|mut entries| {
            entries.push(entry(&self.writes.shared.cache)?);
            Ok(entries)
        });
        self
    }

    /// Puts the write into the queue and the entries into the cache: [`WriteBehind::send`].
    ///
    /// # Errors
    /// As [`WriteBehind::send`], and those of an entry that can't be stored.
    ///
    /// # Cancel safety
    /// When it is dropped, the write may be queued and the entries stored: both or neither.
    pub async fn send<P: Serialize + ?Sized>(
        self,
        kind: &str,
        order_key: impl Display,
        payload: &P,
    ) -> Result<u64, CacheError> {
        let (shared, order_key) = (&self.writes.shared, order_key.to_string());
        let payload = shared.encode(kind, &order_key, payload)?;
        Box::pin(shared.send(kind, &order_key, &payload, &self.entries?)).await
    }
}
