//! Evidence in the store that a load may fill: a lease where nothing is, or a claim on the value that
//! is there. It is given up by `Drop`.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use crate::background;
use crate::cache::Cache;
use crate::error::StoreError;
use crate::record::{self, Claim, Kind, Prefix};
use crate::tags::Captured;

/// The right to fill one key, as long as the store agrees.
#[derive(Debug)]
pub(crate) struct Hold {
    cache: Cache,
    key: String,
    prefix: Prefix,
    /// For a claim: when the value that it stands on expires, if it does.
    end: Option<Instant>,
    /// What the tags of the value were before it is loaded, if it has any: evidence, too.
    captured: Option<Box<Captured>>,
    undo: Undo,
}

/// What dropping a hold does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    /// Nothing: the fill took its place, or it never was there.
    Nothing,
    /// Removes the lease, or the value that was claimed.
    Release,
    /// Takes back the claim; the value stays.
    Unclaim,
}

impl Hold {
    /// A lease that is about to be acquired; dropping it releases it, acquired or not.
    pub(crate) fn lease(cache: Cache, key: String) -> Self {
        let prefix = record::fresh(Kind::Lease);
        Self { cache, key, prefix, end: None, captured: None, undo: Undo::Release }
    }

    /// A put's token that is about to be placed; dropping it releases it, placed or not.
    pub(crate) fn put(cache: Cache, key: String) -> Self {
        Self { cache, key, prefix: record::fresh(Kind::Put), end: None, captured: None, undo: Undo::Release }
    }

    /// A claim that is about to be made, on a value that expires then.
    pub(crate) fn claim(cache: Cache, key: String, end: Option<Instant>) -> Self {
        let prefix = record::fresh(Kind::Value);
        Self { cache, key, prefix, end, captured: None, undo: Undo::Unclaim }
    }

    pub(crate) fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// What the tags were when it was made.
    pub(crate) fn capture(&mut self, captured: Captured) {
        self.captured = Some(Box::new(captured));
    }

    pub(crate) fn take_captured(&mut self) -> Option<Box<Captured>> {
        self.captured.take()
    }

    /// What stands in the store while it holds: a lease, or the head of a claimed value.
    pub(crate) fn token(&self) -> Bytes {
        if self.is_lease() {
            return record::token(self.prefix);
        }
        let claim = if self.end.is_some() { Claim::Held } else { Claim::None };
        record::claimed(self.prefix, claim, self.left().saturating_sub(self.cache.core().options.lease))
    }

    /// Nothing is to be undone.
    pub(crate) fn disarm(&mut self) {
        self.undo = Undo::Nothing;
    }

    /// Dropping it removes what it holds, a claimed value too.
    pub(crate) fn arm(&mut self) {
        self.undo = Undo::Release;
    }

    /// Whether it stands alone, as a lease or a put's token does, and not on a value.
    pub(crate) fn is_lease(&self) -> bool {
        self.prefix[3] != Kind::Value as u8
    }

    /// What is left of the claimed value's life.
    fn left(&self) -> Duration {
        self.end.map(|end| end.saturating_duration_since(Instant::now())).unwrap_or_default()
    }

    /// When it is to be prolonged next.
    pub(crate) fn next_care(&self) -> Duration {
        let lease = self.cache.core().options.lease;
        // A renewal that comes late, or fails once, still finds the lease.
        let every = lease / 3;
        if self.is_lease() || self.end.is_none() {
            return every;
        }
        every.min(self.left().saturating_sub(lease / 10)).max(Duration::from_millis(1))
    }

    /// Gives it a lease's time from now on. A claim whose value is about to end becomes a lease, so
    /// that the load isn't lost; where that fails, the fill will be refused.
    pub(crate) fn prolong(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (cache, key, seen) = (self.cache.clone(), self.key.clone(), self.prefix);
        let lease = cache.core().options.lease;
        if self.is_lease() {
            return Box::pin(async move { drop(cache.core().store.extend(&key, seen, lease).await) });
        }
        if self.end.is_some() && self.left() <= lease / 5 {
            self.prefix = record::lease_of(seen);
            self.undo = Undo::Release;
            let token = self.token();
            return Box::pin(async move {
                drop(cache.core().store.swap(&key, seen, token, Some(lease)).await);
            });
        }
        let head = self.token();
        Box::pin(async move { drop(cache.core().store.stamp(&key, seen, head, None).await) })
    }

    /// Says in the store that a load failed, so that the next one waits a little. True if the value is
    /// known to be still there: nobody invalidated or replaced it since it was claimed.
    pub(crate) async fn rest(mut self) -> Result<bool, StoreError> {
        let cache = self.cache.clone();
        let core = cache.core();
        let kept = if self.is_lease() {
            // The value has ended meanwhile; that the lease is there shows that nothing else happened.
            core.timed(core.store.release(&self.key, self.prefix)).await
        } else {
            let until = self.left().saturating_sub(core.options.stale_backoff);
            let claim = if self.end.is_some() { Claim::Resting } else { Claim::None };
            let head = record::claimed(self.prefix, claim, until);
            core.timed(core.store.stamp(&self.key, self.prefix, head, None)).await
        };
        // Cancel: `Drop` takes the claim back, so the next call tries at once.
        if kept.is_ok() {
            self.disarm();
        }
        kept
    }

    /// Removes what it holds, before anybody can take it for the newest.
    pub(crate) async fn remove(mut self) {
        self.arm();
        let cache = self.cache.clone();
        let core = cache.core();
        if core.timed(core.store.release(&self.key, self.prefix)).await.is_ok() {
            self.disarm();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let (cache, key, prefix) = (self.cache.clone(), std::mem::take(&mut self.key), self.prefix);
        match self.undo {
            Undo::Nothing => {}
            Undo::Release => {
                let orphan = Orphan { cache, prefix, released: false };
                background::run(async move {
                    let mut orphan = orphan;
                    let core = orphan.cache.core();
                    match core.timed(core.store.release(&key, prefix)).await {
                        Ok(_) => orphan.released = true,
                        Err(error) => {
                            debug!(target: "cache_aside", %key, %error, "a lease wasn't released; the next call takes it over");
                        }
                    }
                });
            }
            // One that stays ends by itself.
            Undo::Unclaim => background::run(async move {
                let head = record::claimed(prefix, Claim::None, Duration::ZERO);
                let core = cache.core();
                drop(core.timed(core.store.stamp(&key, prefix, head, None)).await);
            }),
        }
    }
}

/// A lease that is being released; dropped before that is done, it is noted.
struct Orphan {
    cache: Cache,
    prefix: Prefix,
    released: bool,
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if !self.released {
            self.cache.core().orphans.add(self.prefix);
        }
    }
}

/// Leases that couldn't be released, the latest last. They expire soon, so a few are enough; one
/// that is forgotten is waited for like another process'.
#[derive(Debug, Default)]
pub(crate) struct Orphans(Mutex<VecDeque<Prefix>>);

impl Orphans {
    const MOST: usize = 1000;

    fn add(&self, prefix: Prefix) {
        let mut orphans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if orphans.len() == Self::MOST {
            orphans.pop_front();
        }
        orphans.push_back(prefix);
    }

    /// Whether this is one.
    pub(crate) fn has(&self, prefix: &Prefix) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(prefix)
    }
}
