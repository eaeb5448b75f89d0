//! How a write gets into its queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::CacheEntry;
use super::builder::Options;
use crate::cache::Cache;
use crate::clock;
use crate::codec::Codec;
use crate::error::{CacheError, StoreError};
use crate::key::LONGEST;
use crate::shared::{Core, late};
use crate::store::Reply;
use crate::store::queue::{Appended, Limits, NewEntry, NewWrite, Queue};

/// The first and the longest pause between two looks for room.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// The longest kind.
const LONGEST_KIND: usize = 128;

/// What the handles of a queue share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) cache: Cache,
    pub(super) queue: Arc<dyn Queue>,
    pub(super) options: Options,
    /// The store was asked whether it will do, and does.
    pub(super) is_checked: AtomicBool,
}

impl Shared {
    pub(super) fn core(&self) -> &Core {
        self.cache.core()
    }

    /// The payload, if all of the write can be sent.
    pub(super) fn encode<P: Serialize + ?Sized>(
        &self,
        kind: &str,
        order_key: &str,
        payload: &P,
    ) -> Result<Vec<u8>, CacheError> {
        check_kind(kind)?;
        if order_key.len() > LONGEST {
            return Err(CacheError::KeyTooLong { bytes: order_key.len(), max: LONGEST });
        }
        let mut json = Vec::with_capacity(128);
        Codec::Json.encode(payload, &mut json, self.core().options.max_value)?;
        Ok(json)
    }

    /// An operation of the queue that a caller waits for.
    pub(super) async fn ask<T>(&self, operation: Reply<'_, T>) -> Result<T, StoreError> {
        self.in_time(self.options.patience, operation).await
    }

    /// An operation that may take so long. The server is to blame for a late answer only if it had as long as
    /// any other operation has.
    pub(super) async fn in_time<T>(&self, left: Duration, operation: Reply<'_, T>) -> Result<T, StoreError> {
        let core = self.core();
        if left >= core.options.budget || !core.store.is_remote() {
            return core.timed_by(left, operation).await;
        }
        clock::timeout(left, operation).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks the store whether it will do, until it has said so once.
    pub(super) async fn check(&self, left: Duration) -> Result<(), CacheError> {
        if self.is_checked.load(Relaxed) {
            return Ok(());
        }
        let check = self.queue.check(self.options.is_synced());
        clock::timeout(left, check).await.unwrap_or_else(|_| Err(late().into()))?;
        self.is_checked.store(true, Relaxed);
        Ok(())
    }

    pub(super) async fn send(
        &self,
        kind: &str,
        order_key: &str,
        payload: &[u8],
        entries: &[CacheEntry],
    ) -> Result<u64, CacheError> {
        let end = Instant::now() + self.options.patience;
        let (mut pause, longest) = POLL;
        loop {
            let problem = match self.prepare(end, entries).await {
                Ok(entries) => match self.append(end, kind, order_key, payload, &entries).await? {
                    Appended::At(seq) => return Ok(seq),
                    Appended::Full => {
                        let Limits { capacity, .. } = self.options.limits;
                        CacheError::QueueFull { queue: self.name.clone(), capacity }
                    }
                },
                Err(error @ CacheError::Unavailable(_)) => error,
                Err(error) => return Err(error),
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !clock::has_timers() {
                return Err(problem);
            }
            // Not all at the same moment when there is room again.
            clock::sleep_jittered(pause.min(left)).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// How long the store may take. Too short a time would leave open whether a write was appended.
    fn left(&self, end: Instant) -> Duration {
        let least = self.core().options.budget.min(self.options.patience);
        end.saturating_duration_since(Instant::now()).max(least)
    }

    /// All that comes before the append, so that it can be tried again: nothing was appended then.
    async fn prepare(&self, end: Instant, entries: &[CacheEntry]) -> Result<Vec<NewEntry>, CacheError> {
        self.check(self.left(end)).await?;
        self.in_time(self.left(end), self.queue.reach()).await?;
        // Each time: what was captured of tags is as young as the append.
        let mut prepared = Vec::with_capacity(entries.len());
        for entry in entries {
            prepared.push(entry.prepare(self.core()).await?);
        }
        Ok(prepared)
    }

    /// Once only, unless it was refused: an append that may have arrived could still arrive after a newer one, and
    /// be the last.
    async fn append(
        &self,
        end: Instant,
        kind: &str,
        order_key: &str,
        payload: &[u8],
        entries: &[NewEntry],
    ) -> Result<Appended, CacheError> {
        let write = NewWrite { kind, order_key, payload, entries, synced: self.options.is_synced() };
        let keys = || entries.iter().map(|entry| &*entry.key);
        self.forget(keys());
        let (left, append) = (self.left(end), self.queue.append(&write, self.options.limits));
        let appended = if write.synced {
            // A slow disk: the server answers others all the same.
            clock::timeout(left, append).await.unwrap_or_else(|_| Err(late()))
        } else {
            self.in_time(left, append).await
        };
        self.forget(keys());
        Ok(appended?)
    }

    /// These entries change: what is kept of them in this process is over. To be called before the change is
    /// sent and after the reply, as `store/watched.rs` says.
    pub(super) fn forget<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        keys.for_each(|key| self.core().near.forget(key.as_bytes()));
    }
}

/// A kind stands in logs, so it is one line.
pub(super) fn check_kind(kind: &str) -> Result<(), CacheError> {
    if kind.is_empty() || kind.len() > LONGEST_KIND || kind.contains(char::is_control) {
        return Err(CacheError::Settings(format!(
            "the kind {kind:.200?} can't be used; write 1 to {LONGEST_KIND} printable bytes, such as `update_user_db`"
        )));
    }
    Ok(())
}
