//! A queue of writes in this process: the contract of `store/queue.rs`, but for what outlives the process.
//!
//! It isn't in the evicting map. One lock is around all of it, and entries are set under it as well, so that
//! writes and entries can't come in different orders.

mod state;

use std::collections::BTreeSet;
use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use self::state::{Dead, Lane, Mark, State, Write};
use super::shard::Slot;
use super::{Slots, reply};
use crate::clock;
use crate::error::CacheError;
use crate::record::{self, Found, PREFIX};
use crate::store::Reply;
use crate::store::queue::{
    Appended, Buried, Checking, Delivery, Figures, Letter, Limits, NewEntry, NewWrite, Queue, Tenure, Term,
};

/// A queue in this process.
pub(crate) struct MemoryQueue {
    base: String,
    slots: Slots,
    // std mutex: never held across an await
    state: Mutex<State>,
    arrived: Notify,
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue").field("base", &self.base).finish_non_exhaustive()
    }
}

impl MemoryQueue {
    pub(super) fn new(base: &str, slots: Slots) -> Self {
        Self { base: base.to_owned(), slots, state: Mutex::default(), arrived: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, divided as whoever came first said.
    fn divided(&self, limits: Limits) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if state.lanes.is_empty() {
            state.lanes.resize_with(limits.shards.max(1) as usize, Lane::default);
        } else if state.lanes.len() != limits.shards as usize && !state.has_warned {
            state.has_warned = true;
            let (shards, ignored) = (state.lanes.len(), limits.shards);
            warn!(target: "cache_aside", queue = %self.base, shards, ignored, "the queue has another number of shards already: that one counts");
        }
        state
    }

    /// Puts the entry where it belongs; how it begins if it stands there.
    fn store(&self, entry: &NewEntry) -> Option<Bytes> {
        let mut shard = self.slots.shard(&entry.key);
        let there = shard.live(&entry.key).map(|slot| record::read(slot.value));
        let Some(value) = entry.value.as_ref().filter(|_| !matches!(there, Some(Found::Fence))) else {
            if !matches!(there, Some(Found::Fence)) {
                shard.take(&entry.key);
            }
            return None;
        };
        if there.is_some_and(|there| is_newer(&there, value)) {
            shard.take(&entry.key);
            return None;
        }
        shard.put(&entry.key, Slot::new(value.clone(), entry.life));
        Some(begins(value))
    }

    /// Removes what is under the key, but of a fence, and of what begins like this.
    fn remove(&self, key: &str, stored: Option<&Bytes>) {
        let mut shard = self.slots.shard(key);
        let Some(Slot { value, .. }) = shard.live(key) else { return };
        let stays = stored.is_some_and(|stored| begins(&value) == *stored);
        if !stays && record::read(value) != Found::Fence {
            shard.take(key);
        }
    }

    /// These have left the queue, in one step: what becomes of their entries.
    fn unmark(&self, state: &mut State, gone: &[((u32, u64), Write)], is_applied: bool) {
        let keys: BTreeSet<&String> = gone.iter().flat_map(|(_, write)| &write.entries).collect();
        for key in keys {
            match state.marks.get(key) {
                Some(mark) if !gone.iter().any(|(at, _)| *at == mark.write) => {}
                Some(_) => {
                    let stored = state.marks.remove(key).and_then(|mark| mark.stored);
                    self.remove(key, stored.filter(|_| is_applied).as_ref());
                }
                None => self.remove(key, None),
            }
        }
    }
}

/// What is compared of a value: a record's id.
fn begins(value: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&value[..value.len().min(PREFIX)])
}

/// Whether what is there is of a newer version than this value, or of a newer format.
fn is_newer(there: &Found, value: &Bytes) -> bool {
    let version = match record::read(value.clone()) {
        Found::Value(value) => value.head.version,
        _ => 0,
    };
    match there {
        Found::Value(there) => there.head.version > version,
        there => *there == Found::Newer,
    }
}

/// Microseconds since 1970.
fn micros() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(0)
}

impl Queue for MemoryQueue {
    fn check(&self, synced: bool) -> Checking<'_> {
        Box::pin(async move {
            if synced {
                return Err(CacheError::Settings(
                    "`Durability::Fsync` needs a server's disk, and the embedded store is in use: set REDIS_URL or \
                     REDIS_HOST, or write `Durability::Memory`"
                        .to_owned(),
                ));
            }
            Ok(())
        })
    }

    fn reach(&self) -> Reply<'_, ()> {
        reply(|| ())
    }

    fn append<'a>(&'a self, write: &'a NewWrite<'a>, limits: Limits) -> Reply<'a, Appended> {
        reply(move || {
            let mut state = self.divided(limits);
            if state.pending() >= limits.capacity {
                return Appended::Full;
            }
            let seq = micros().max(state.seq + 1);
            state.seq = seq;
            let at = state.append(Write {
                seq,
                kind: write.kind.to_owned(),
                order_key: write.order_key.to_owned(),
                payload: Bytes::copy_from_slice(write.payload),
                entries: write.entries.iter().map(|entry| entry.key.clone()).collect(),
                deliveries: 0,
                appended: Instant::now(),
            });
            for entry in write.entries {
                let stored = self.store(entry);
                let mark = Mark { write: at, copy: entry.copy.clone(), stored };
                state.marks.insert(entry.key.clone(), mark);
            }
            drop(state);
            self.arrived.notify_waiters();
            Appended::At(seq)
        })
    }

    fn tend<'a>(
        &'a self,
        worker: &'a str,
        lease: Duration,
        release: &'a [Term],
        limits: Limits,
    ) -> Reply<'a, Tenure> {
        reply(move || self.divided(limits).tend(worker, lease, release))
    }

    fn leave<'a>(&'a self, worker: &'a str) -> Reply<'a, ()> {
        reply(move || {
            let mut state = self.state();
            state.workers.remove(worker);
            for lane in &mut state.lanes {
                lane.owner.take_if(|(owner, _)| owner == worker);
            }
        })
    }

    fn recover<'a>(&'a self, worker: &'a str, term: Term) -> Reply<'a, Option<Vec<Delivery>>> {
        reply(move || Some(self.state().lane(worker, term)?.deliver(false, usize::MAX)))
    }

    fn read<'a>(&'a self, worker: &'a str, term: Term, most: usize) -> Reply<'a, Option<Vec<Delivery>>> {
        reply(move || Some(self.state().lane(worker, term)?.deliver(true, most)))
    }

    fn again<'a>(&'a self, worker: &'a str, term: Term, id: &'a str, retry: bool) -> Reply<'a, bool> {
        reply(move || {
            let mut state = self.state();
            let Some(lane) = state.lane(worker, term) else { return false };
            let write = id.parse().ok().and_then(|place: u64| lane.writes.get_mut(&place));
            if let Some(write) = write {
                write.deliveries += 1;
                state.retries += u64::from(retry);
            }
            true
        })
    }

    fn settle<'a>(&'a self, worker: &'a str, term: Term, done: &'a [Delivery]) -> Reply<'a, bool> {
        reply(move || {
            let mut state = self.state();
            let Some(lane) = state.lane(worker, term) else { return false };
            let take = |delivery: &Delivery| lane.take(&delivery.id);
            let gone: Vec<_> =
                done.iter().filter_map(take).map(|(place, write)| ((term.shard, place), write)).collect();
            self.unmark(&mut state, &gone, true);
            true
        })
    }

    fn bury<'a>(
        &'a self,
        worker: &'a str,
        term: Term,
        dead: &'a Delivery,
        cause: &'a str,
        limits: Limits,
    ) -> Reply<'a, Buried> {
        reply(move || {
            let mut state = self.state();
            let is_full = state.letters.len() as u64 >= limits.letters;
            let Some(lane) = state.lane(worker, term) else { return Buried::Lost };
            if is_full {
                return Buried::Full;
            }
            if let Some((place, mut write)) = lane.take(&dead.id) {
                write.deliveries = dead.deliveries;
                let gone = [((term.shard, place), write)];
                self.unmark(&mut state, &gone, false);
                let ([(_, write)], id) = (gone, state.next());
                state.letters.insert(id, Dead { write, cause: cause.to_owned() });
            }
            Buried::Done
        })
    }

    fn arrivals<'a>(&'a self, _: &'a str, shards: &'a [u32], patience: Duration) -> Reply<'a, ()> {
        Box::pin(async move {
            let has_unread = || {
                let lanes = &self.state().lanes;
                shards.iter().any(|shard| lanes.get(*shard as usize).is_some_and(Lane::has_unread))
            };
            let arrival = async {
                loop {
                    let mut arrived = pin!(self.arrived.notified());
                    arrived.as_mut().enable();
                    if has_unread() {
                        return;
                    }
                    arrived.await;
                }
            };
            // Late or not, it is worth a look.
            let _ = clock::timeout(patience, arrival).await;
            Ok(())
        })
    }

    fn pending<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        reply(move || self.state().marks.get(key).map(|mark| mark.copy.clone()))
    }

    fn figures(&self) -> Reply<'_, Figures> {
        reply(|| {
            let (state, now) = (self.state(), Instant::now());
            let first = |lane: &Lane| lane.writes.first_key_value().map(|(_, write)| write.appended);
            Figures {
                pending: state.pending(),
                oldest: state.lanes.iter().filter_map(first).min().map(|at| now - at),
                letters: state.letters.len() as u64,
                retries: state.retries,
                workers: state.workers.values().filter(|end| **end > now).count() as u64,
            }
        })
    }

    fn letters(&self, most: usize) -> Reply<'_, Vec<Letter>> {
        reply(move || {
            let letter = |(id, Dead { write, cause }): (&u64, &Dead)| Letter {
                id: id.to_string(),
                seq: write.seq,
                kind: write.kind.clone(),
                order_key: write.order_key.clone(),
                payload: write.payload.clone(),
                cause: cause.clone(),
                attempts: write.deliveries,
                age: write.appended.elapsed(),
            };
            self.state().letters.iter().take(most).map(letter).collect()
        })
    }

    fn replay<'a>(&'a self, letter: &'a Letter, limits: Limits) -> Reply<'a, bool> {
        reply(move || {
            let mut state = self.divided(limits);
            let id = letter.id.parse().ok();
            let Some(Dead { mut write, .. }) = id.and_then(|id: u64| state.letters.remove(&id)) else {
                return false;
            };
            write.appended = Instant::now();
            state.append(write);
            drop(state);
            self.arrived.notify_waiters();
            true
        })
    }

    fn discard<'a>(&'a self, letter: &'a str) -> Reply<'a, bool> {
        reply(move || {
            let id = letter.parse().ok();
            id.and_then(|id: u64| self.state().letters.remove(&id)).is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::store::{MemoryStore, Store};

    #[allow(clippy::unused_async)] // other stores wait for their server
    async fn make() -> (MemoryStore, ()) {
        (MemoryStore::new(1 << 20), ())
    }
    crate::store::queue::conformance::queue_conformance!(make);

    #[tokio::test]
    async fn there_is_no_disk() {
        let store = MemoryStore::new(1 << 20);
        let queue = store.queue("@writes:{q}");
        queue.check(false).await.unwrap();
        let refused = queue.check(true).await.unwrap_err().to_string();
        assert!(refused.contains("Durability::Fsync") && refused.contains("REDIS_URL"), "{refused}");
    }
}
