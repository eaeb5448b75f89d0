//! Shared reads: on a hot key, callers share one GET.
//!
//! A caller who finds nobody reading the key reads by itself. A second one, who finds that caller,
//! sends a batch of one at once: neither loses anything. Who comes while a batch is in the air joins
//! the next one, which takes off when that one lands. It never joins what is in the air: that GET
//! may be older than an invalidation that returned before the caller asked.
//!
//! **No value is older than its reader's question** (I3). Callers join a batch only while it is
//! `Line::next`, under the lock of the shard. A batch is sealed by moving it to `Line::air`, under the
//! same lock, and its GET, which does nothing before its first poll, is polled only after that. So
//! every member began its read before the GET of its batch was sent, and what the server answers is
//! at least as new as every invalidation that had returned by then.
//!
//! **Nobody waits for a caller who is dropped or no longer polled** (I7). A batch has no leader: its
//! reply wakes all members, and the first who is polled takes it for all. When half of them have
//! theirs, so that those who ask again are on board, the next batch is sent. Who is dropped before
//! that, or runs out of budget, takes what is in the air off the line: its members still get its
//! reply, and the next batch goes at once. If too many are alive and not polled, nobody sends the next:
//! so whoever has waited for [`PATIENCE`] looks for himself, and any caller who looks does whatever is
//! to be done. Nobody waits for a caller who reads by itself.
//!
//! A timer for each caller would cost as much as all the rest. Until [`PATIENCE`] has passed, a batch
//! has one for all its members, who are therefore of one runtime; after that, each has its own.

mod batch;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use self::batch::{Batch, Outcome};
use crate::clock;
use crate::error::StoreError;
use crate::store::Reply;

const SHARDS: usize = 64;

/// How long a caller waits without looking. Most replies come sooner.
const PATIENCE: Duration = Duration::from_millis(5);

/// The reads that are going on; `T` is what one finds.
pub(crate) struct Reads<T> {
    // std mutexes: never held across an await, nor while a GET is polled
    shards: [Mutex<Lines<T>>; SHARDS],
}

type Lines<T> = HashMap<u64, Line<T>, BuildHasherDefault<Taken>>;

/// The reads of one key (or, once in a blue moon, of two with one hash).
struct Line<T> {
    /// Somebody reads by itself.
    solo: bool,
    /// Sealed: its GET is, or is just about to be, on the wire.
    air: Option<Arc<Batch<T>>>,
    /// Open.
    next: Option<Arc<Batch<T>>>,
}

/// How a caller reads.
enum Way<'a, T> {
    Alone { _solo: Option<Solo<'a, T>> },
    Shared(Member<'a, T>),
}

/// A caller who reads by itself.
struct Solo<'a, T> {
    reads: &'a Reads<T>,
    hash: u64,
}

/// A caller's place in a batch; dropping it leaves.
struct Member<'a, T> {
    reads: &'a Reads<T>,
    hash: u64,
    batch: Arc<Batch<T>>,
    done: bool,
}

impl<T: Clone + Send + 'static> Reads<T> {
    pub(crate) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// What is under `key`, of which `hash` is a good hash, if it is found within `left`. `shared` makes
    /// the same future as `alone`, for as long as others may want it; neither future does anything
    /// before its first poll.
    ///
    /// Cancel safe: a batch goes on without the member.
    pub(crate) fn get<'a>(
        &self,
        key: &str,
        hash: u64,
        left: Duration,
        alone: impl FnOnce() -> Reply<'a, T>,
        shared: impl FnOnce() -> Reply<'static, T>,
    ) -> impl Future<Output = Result<Result<T, StoreError>, Elapsed>> {
        // Not in the future, which is part of every decorated call and small.
        let way = self.join(key, hash, shared);
        async move {
            let mut member = match way {
                Way::Alone { _solo } => return clock::timeout(left, alone()).await,
                Way::Shared(member) => member,
            };
            let begun = Instant::now();
            let soon = if left > PATIENCE { member.soon().await } else { None };
            let rest = || left.saturating_sub(begun.elapsed());
            let outcome = match soon {
                Some(outcome) => outcome,
                None => Box::pin(clock::timeout(rest(), member.late())).await?,
            };
            member.done = true;
            match outcome {
                Outcome::Reply(reply) => Ok(reply),
                Outcome::Panic => Box::pin(clock::timeout(rest(), alone())).await,
            }
        }
    }

    fn join(&self, key: &str, hash: u64, get: impl FnOnce() -> Reply<'static, T>) -> Way<'_, T> {
        let mut lines = self.lines(hash);
        let line = lines.entry(hash).or_insert(Line { solo: false, air: None, next: None });
        if !line.solo && line.next.is_none() {
            line.solo = true;
            return Way::Alone { _solo: Some(Solo { reads: self, hash }) };
        }
        // Outside a runtime there are no timers.
        let Ok(runtime) = Handle::try_current().map(|handle| handle.id()) else {
            return Way::Alone { _solo: None };
        };
        let batch = match &line.next {
            Some(next) if next.is_of(key, runtime) => {
                next.enter();
                Arc::clone(next)
            }
            Some(_) => return Way::Alone { _solo: None },
            None => Arc::clone(line.next.insert(Arc::new(Batch::open(key, runtime, get())))),
        };
        Way::Shared(Member { reads: self, hash, batch, done: false })
    }
}

impl<T> Reads<T> {
    fn lines(&self, hash: u64) -> MutexGuard<'_, Lines<T>> {
        let shard = usize::try_from((hash >> 32) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the line, and removes it if nobody reads any more.
    fn change<R>(&self, hash: u64, change: impl FnOnce(&mut Line<T>) -> Option<R>) -> Option<R> {
        let mut lines = self.lines(hash);
        let line = lines.get_mut(&hash)?;
        let changed = change(line);
        if !line.solo && line.air.is_none() && line.next.is_none() {
            lines.remove(&hash);
        }
        changed
    }

    /// The batch in the air before this one; if there is none, this one is sealed.
    fn ahead_of(&self, hash: u64, batch: &Arc<Batch<T>>) -> Option<Arc<Batch<T>>> {
        self.change(hash, |line| {
            if !is(line.next.as_ref(), batch) {
                return None;
            }
            if line.air.is_none() {
                line.seal();
                return None;
            }
            line.air.clone()
        })
    }

    /// Takes a batch that landed off the line; gives the next one, which that seals.
    fn clear(&self, hash: u64, landed: &Arc<Batch<T>>) -> Option<Arc<Batch<T>>> {
        self.change(hash, |line| {
            if !is(line.air.as_ref(), landed) {
                return None;
            }
            line.seal();
            line.air.clone()
        })
    }
}

fn is<T>(one: Option<&Arc<Batch<T>>>, other: &Arc<Batch<T>>) -> bool {
    one.is_some_and(|one| Arc::ptr_eq(one, other))
}

impl<T> Line<T> {
    /// Nobody joins the next batch any more: it is in the air.
    fn seal(&mut self) {
        self.air = self.next.take();
    }
}

impl<T: Clone> Member<'_, T> {
    /// What the batch brings; nothing: it is late.
    async fn soon(&self) -> Option<Outcome<T>> {
        loop {
            let rung = self.batch.rung();
            if let Some(outcome) = self.look(false) {
                return Some(outcome);
            }
            if self.batch.is_late() {
                return None;
            }
            rung.await;
        }
    }

    /// What the batch brings, however long that takes.
    async fn late(&self) -> Outcome<T> {
        let mut pause = PATIENCE;
        loop {
            let rung = self.batch.rung();
            if let Some(outcome) = self.look(true) {
                return outcome;
            }
            let _ = clock::timeout(pause, rung).await;
            pause = pause.saturating_mul(2);
        }
    }

    /// The outcome, if it is there; if not, does what is to be done. Who is late also looks after the
    /// batch in the air before its own.
    fn look(&self, late: bool) -> Option<Outcome<T>> {
        let mut landed = self.batch.landed();
        while landed.is_none() {
            match self.reads.ahead_of(self.hash, &self.batch) {
                None => landed = Some(self.batch.poll()?),
                Some(_) if !late => return None,
                Some(ahead) => {
                    ahead.poll()?;
                    self.send_after(&ahead);
                }
            }
        }
        if self.batch.take_is_half() {
            self.send_after(&self.batch);
        }
        landed
    }

    fn send_after(&self, landed: &Arc<Batch<T>>) {
        if let Some(next) = self.reads.clear(self.hash, landed) {
            next.poll();
        }
    }
}

impl<T> Drop for Solo<'_, T> {
    fn drop(&mut self) {
        self.reads.change(self.hash, |line| {
            line.solo = false;
            None::<()>
        });
    }
}

impl<T> Drop for Member<'_, T> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Given up outside the lock.
        let given_up = self.reads.change(self.hash, |line| {
            let waits = is(line.next.as_ref(), &self.batch);
            if waits && self.batch.leave_is_last() {
                line.next = None;
            }
            let air = line.air.take_if(|air| waits || Arc::ptr_eq(air, &self.batch))?;
            Some((air, line.next.clone()))
        });
        if let Some((_air, Some(next))) = given_up {
            next.ring();
        }
    }
}

/// A hash of what is a hash already.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only `u64`s are hashed")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
