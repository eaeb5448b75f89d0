//! In-process single flight: callers of one key share one load.
//!
//! A flight is the queue of one key. Its members take turns at leading; who may take a leader's
//! value is settled when they join:
//!
//! - who joined before the load began may take its value in any case: it is younger than they are;
//! - who joined while it ran may take it only if the store accepted the fill, which shows that
//!   nothing was invalidated since the load began;
//! - who joined after the seal, which is set before the fill is sent, may not take it.
//!
//! Who may not take a value leads the next load, or waits for it as one who joined before it began.
//! So nobody waits for more than two loads, and no value is older than its reader's question.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::clock;
use crate::key::Identity;
use crate::record::Prefix;
use crate::recursion;

const SHARDS: usize = 16;
/// How many keys a cache loads at once; a call of one more goes past the cache. It bounds the memory
/// that a flood of different keys can take.
const MOST: usize = 1 << 16;

/// The flights of one cache.
#[derive(Debug)]
pub(crate) struct Flights {
    // std mutexes: never held across an await
    shards: [Mutex<HashMap<Arc<Subject>, Arc<Flight>>>; SHARDS],
    hasher: RandomState,
    most_per_shard: usize,
}

/// What one flight loads. Calls of one key text that would not read each other's entries don't
/// share a load either.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub(crate) key: String,
    pub(crate) identity: Identity,
    pub(crate) fingerprint: u64,
    pub(crate) version: u32,
}

/// The queue of one key.
#[derive(Debug)]
pub(crate) struct Flight {
    subject: Arc<Subject>,
    state: Mutex<State>,
    bell: Notify,
    /// When the leader was last polled, by `clock::millis`.
    stamp: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    members: usize,
    /// Loads begun so far.
    loads: u64,
    /// Landings so far.
    landings: u64,
    /// The load that runs is past the point where joiners may take its value.
    sealed: bool,
    /// The seat that leads, and the lease it holds in the store.
    leader: Option<u64>,
    lease: Option<Prefix>,
    seats: u64,
    /// A lease in the store whose leader is gone.
    orphan: Option<Prefix>,
    landed: Option<Landed>,
}

impl State {
    /// Empties the leader's seat; its lease, or the one it was to take over, is left to the next. False
    /// if nobody sat there.
    fn vacate(&mut self) -> bool {
        self.orphan = self.lease.take().or(self.orphan);
        self.leader.take().is_some()
    }
}

#[derive(Debug, Clone)]
struct Landed {
    load: u64,
    outcome: Landing,
}

/// How a leader's turn ended.
#[derive(Debug, Clone)]
pub(crate) enum Landing {
    /// It loaded this record; whether the store accepted the fill.
    Value { record: Bytes, accepted: bool },
    /// It found the value in the store after all.
    Found,
    /// Its loader failed or panicked, or ran past the load deadline: everybody for himself.
    Alone,
}

/// What a member is to do now.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Load, in the seat of this number: call [`Member::sit`].
    Lead {
        /// The seat's number.
        seat: u64,
        /// The lease of a leader that is gone, if it left one.
        orphan: Option<Prefix>,
    },
    /// Another's load answers.
    Take(Bytes),
    /// The value is in the store: read it.
    Read,
    /// Load without waiting for anybody.
    Alone,
    /// This task is in the middle of loading this very key.
    Recursion,
    /// Wait.
    Wait,
}

impl Flights {
    pub(crate) fn new() -> Self {
        Self::with_room_for(MOST)
    }

    fn with_room_for(most: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            most_per_shard: most.div_ceil(SHARDS),
        }
    }

    /// Joins the queue of this key. None: too many keys are being loaded.
    pub(crate) fn join(self: &Arc<Self>, subject: Subject) -> Option<Member> {
        let mut shard = self.shard(&subject);
        let flight = match shard.get(&subject) {
            Some(flight) => Arc::clone(flight),
            None if shard.len() >= self.most_per_shard => return None,
            None => {
                let subject = Arc::new(subject);
                let flight = Arc::new(Flight {
                    subject: Arc::clone(&subject),
                    state: Mutex::default(),
                    bell: Notify::new(),
                    stamp: AtomicU64::new(0),
                });
                shard.insert(subject, Arc::clone(&flight));
                flight
            }
        };
        let mut state = flight.lock();
        state.members += 1;
        let (loads, landings, sealed) = (state.loads, state.landings, state.sealed);
        drop(state);
        drop(shard);
        Some(Member { flights: Arc::clone(self), flight, loads, seen: landings, sealed })
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_ok_and(|flights| flights.is_empty()))
    }

    fn shard(&self, subject: &Subject) -> MutexGuard<'_, HashMap<Arc<Subject>, Arc<Flight>>> {
        let shard = usize::try_from(self.hasher.hash_one(subject) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// A place in the queue of one key; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Member {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    /// Loads begun when it joined.
    loads: u64,
    /// Landings that it has dealt with.
    seen: u64,
    /// Whether the load that ran when it joined was sealed.
    sealed: bool,
}

impl Member {
    /// What to do now.
    pub(crate) fn turn(&mut self) -> Turn {
        let mut state = self.flight.lock();
        if state.landings > self.seen {
            self.seen = state.landings;
            if let Some(turn) = state.landed.as_ref().and_then(|landed| self.may(landed)) {
                return turn;
            }
            // It waited through that load, so any later one is younger than its question.
            self.sealed = false;
        }
        if state.leader.is_some() {
            let mine = recursion::is_loading(self.flight.address());
            return if mine { Turn::Recursion } else { Turn::Wait };
        }
        state.seats += 1;
        state.leader = Some(state.seats);
        state.sealed = false;
        self.flight.touch();
        Turn::Lead { seat: state.seats, orphan: state.orphan }
    }

    /// What a landing means for this member; nothing: it goes on competing for the lead.
    fn may(&self, landed: &Landed) -> Option<Turn> {
        match &landed.outcome {
            Landing::Alone => Some(Turn::Alone),
            Landing::Found => Some(Turn::Read),
            Landing::Value { record, accepted } => {
                let before_it_began = self.loads < landed.load;
                let before_the_seal = self.loads == landed.load && !self.sealed;
                (before_it_began || (before_the_seal && *accepted)).then(|| Turn::Take(record.clone()))
            }
        }
    }

    /// Takes the seat that `turn` gave.
    pub(crate) fn sit(self, number: u64) -> Seat {
        Seat { member: self, number, load: 0, landed: false }
    }

    /// Waits until there may be something to do: a landing, a vacant seat, the end of `most`, or a
    /// leader that hasn't been polled for `lease`, whose seat is then taken from it.
    ///
    /// Cancel safe: nothing is lost, the place in the queue goes with the member.
    pub(crate) async fn wait(&mut self, lease: Duration, most: Option<Duration>) {
        let mut bell = pin!(self.flight.bell.notified());
        bell.as_mut().enable();
        {
            let state = self.flight.lock();
            if state.landings > self.seen || state.leader.is_none() {
                return;
            }
        }
        if clock::timeout(most.map_or(lease, |most| most.min(lease)), bell).await.is_err() {
            self.flight.depose_idler(lease);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Lock order as in `join`: the shard, then the flight.
        let mut shard = self.flights.shard(&self.flight.subject);
        let mut state = self.flight.lock();
        state.members -= 1;
        if state.members == 0 {
            drop(state);
            shard.remove(&self.flight.subject);
        }
    }
}

impl Flight {
    fn touch(&self) {
        self.stamp.store(clock::millis(), Relaxed);
    }

    fn depose_idler(&self, patience: Duration) {
        let mut state = self.lock();
        // Under the lock, so that a leader who has just taken the seat isn't taken for the idle one.
        let idle = clock::millis().saturating_sub(self.stamp.load(Relaxed));
        if u128::from(idle) < patience.as_millis() || !state.vacate() {
            return;
        }
        drop(state);
        self.bell.notify_waiters();
    }
}

/// The leader's seat; dropping it hands over.
#[derive(Debug)]
pub(crate) struct Seat {
    member: Member,
    number: u64,
    load: u64,
    landed: bool,
}

impl Seat {
    /// Says that the leader is alive.
    pub(crate) fn touch(&self) {
        self.member.flight.touch();
    }

    /// Whether anybody waits.
    pub(crate) fn has_followers(&self) -> bool {
        self.member.flight.lock().members > 1
    }

    /// What `recursion` knows this flight by.
    pub(crate) fn address(&self) -> usize {
        self.member.flight.address()
    }

    /// Notes the lease, so that a successor may take it over.
    pub(crate) fn hold(&self, lease: Prefix) {
        self.with(|state| {
            state.lease = Some(lease);
            state.orphan = None;
        });
    }

    /// From here on the load runs: who joins later must see the fill accepted. Once for each seat.
    pub(crate) fn begin(&mut self) {
        if self.load != 0 {
            return;
        }
        let mut load = 0;
        self.with(|state| {
            state.loads += 1;
            load = state.loads;
        });
        self.load = load;
    }

    /// From here on nobody may join for this load's value.
    pub(crate) fn seal(&self) {
        self.with(|state| state.sealed = true);
    }

    /// Ends the turn.
    pub(crate) fn land(mut self, outcome: Landing) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Landing) {
        self.landed = true;
        let load = self.load;
        self.with(|state| {
            state.landings += 1;
            state.landed = Some(Landed { load, outcome });
            state.leader = None;
            state.lease = None;
        });
        self.member.flight.bell.notify_waiters();
    }

    /// Lets the others go their ways while this load goes on.
    pub(crate) fn part(&mut self) {
        if !self.landed {
            self.end(Landing::Alone);
        }
    }

    /// Runs `change` unless the seat was taken from this leader.
    fn with(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.member.flight.lock();
        if state.leader == Some(self.number) {
            change(&mut state);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        if std::thread::panicking() {
            self.end(Landing::Alone);
            return;
        }
        self.with(|state| {
            state.vacate();
        });
        self.member.flight.bell.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
