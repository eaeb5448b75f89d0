//! Shared reads: many callers read at once, and few commands go to the server.
//!
//! Who finds next to nobody reading reads by itself: alone it loses nothing. Who finds others boards
//! the open batch, which holds each key once, and which a task of the runtime, a *lane*, sends in one
//! flush. It has as many keys as come back in good time (`reads/room.rs`); who finds no room reads by
//! itself. There are at most [`LANES`] lanes, so that the server and this process work at the same
//! time. A lane that lands lets those it has answered run, and takes off with who has boarded
//! meanwhile; when nobody has, it ends. A batch that none has come for within [`PATIENCE`] gets one more,
//! which flies once: a server that is far away would otherwise be waited for twice, and a lane waits
//! itself while the thread that it was spawned on is blocked.
//!
//! **No value is older than its reader's question** (I3). Callers board a batch only while it is
//! `Queue::open`, under the lock of the queue. It is sealed by taking it out of there, under the same
//! lock, and its keys are sent after that. So every member began its read before the flush was sent, and
//! what the server answers is at least as new as every invalidation that had returned by then. What is
//! in the air nobody joins.
//!
//! **Nobody waits for a caller who is dropped or no longer polled** (I7). No member sends or receives
//! for others: lanes do, which are tasks, and nobody waits for who reads by itself. A lane waits for the
//! server no longer than a caller may. If it ends otherwise (its runtime does, or a flush panics), its
//! members, and those who wait for it to take off, read for themselves.
//!
//! A timer for each caller would cost as much as all the rest. Until [`PATIENCE`] has passed, a batch
//! has one for all its members, which rings without any task being polled; after that, each has its
//! own. Such a timer is of one runtime, and so is a lane: callers of each runtime have a queue of their own.

mod batch;
mod room;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use self::batch::{Batch, Outcome};
use self::room::Room;
use crate::clock;
use crate::error::StoreError;
use crate::store::Reply;

/// Runtimes that read at the same time and don't hinder one another.
const QUEUES: usize = 64;

/// So many read by themselves, if no lane flies.
const SOLOS: usize = 2;

/// So many flushes are in the air, if replies come soon.
const LANES: usize = 2;

/// How long a caller waits without a timer of its own, and a batch for a lane. Most replies come sooner.
const PATIENCE: Duration = Duration::from_millis(5);

/// What is asked for in a batch.
pub(crate) trait Question: Send + 'static {
    fn key(&self) -> &str;
}

impl Question for String {
    fn key(&self) -> &str {
        self
    }
}

/// The answers to the questions of one flush, in their order.
pub(crate) type Answers<T> = Reply<'static, Vec<Result<T, StoreError>>>;

/// For what can't be asked together: all at once, and done when all are.
pub(crate) fn one_by_one<T: Send + 'static>(replies: impl Iterator<Item = Reply<'static, T>>) -> Answers<T> {
    let all = join_all(replies);
    Box::pin(async move { Ok(all.await) })
}

/// The reads that are going on: questions `Q`, of which each finds a `T`.
pub(crate) struct Reads<Q, T> {
    queues: [Arc<Queue<Q, T>>; QUEUES],
}

/// The reads of one runtime.
struct Queue<Q, T> {
    // std mutex: never held across an await
    state: Mutex<State<Q, T>>,
}

struct State<Q, T> {
    /// Whose lanes they are, if there are any.
    runtime: Option<runtime::Id>,
    solos: usize,
    lanes: usize,
    /// It takes off with the next lane.
    open: Option<Arc<Batch<Q, T>>>,
    /// How many keys the last one had.
    usual: usize,
    /// How many it may have.
    room: Room,
}

/// There was no answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late;

impl From<Elapsed> for Late {
    fn from(_: Elapsed) -> Self {
        Self
    }
}

/// How a caller reads.
enum Way<'a, Q, T> {
    Alone { _solo: Option<Solo<'a, Q, T>> },
    Shared(Member<'a, Q, T>),
}

/// The caller's way, and a lane that is to fly, where a batch needs one.
type Joined<'a, Q, T> = (Way<'a, Q, T>, Option<(Handle, Lane<Q, T>)>);

/// A caller who reads by itself.
struct Solo<'a, Q, T>(&'a Queue<Q, T>);

/// A caller's place in a batch, which goes on without it.
struct Member<'a, Q, T> {
    queue: &'a Arc<Queue<Q, T>>,
    batch: Arc<Batch<Q, T>>,
    seat: usize,
}

impl<Q: Question, T: Clone + Send + 'static> Reads<Q, T> {
    pub(crate) fn new() -> Self {
        Self { queues: std::array::from_fn(|_| Arc::new(Queue { state: Mutex::new(State::idle()) })) }
    }

    /// What is under `key`, of which `hash` is a good hash, if it is found within `left`: by `alone`, or
    /// by what `send` makes, which sends questions for as long as a caller may wait, `most`.
    ///
    /// Cancel safe: a batch goes on without the member.
    pub(crate) fn get<'a, F>(
        &self,
        key: &str,
        hash: u64,
        (left, most): (Duration, Duration),
        question: impl FnOnce() -> Q,
        alone: impl FnOnce() -> Reply<'a, T>,
        send: impl Fn() -> F,
    ) -> impl Future<Output = Result<Result<T, StoreError>, Late>>
    where
        F: Fn(Vec<Q>) -> Answers<T> + Send + 'static,
    {
        // Not in the future, which is part of every decorated call and small.
        let (way, lane) = self.join(key, hash, question);
        if let Some((runtime, lane)) = lane {
            // Not under a lock: a runtime that is ending drops the task, and so the lane, right here.
            runtime.spawn(lane.fly(most, send()));
        }
        async move {
            let member = match way {
                Way::Alone { _solo } => return Ok(clock::timeout(left, alone()).await?),
                Way::Shared(member) => member,
            };
            let begun = Instant::now();
            let soon = if left > PATIENCE { member.soon().await } else { None };
            let rest = || left.saturating_sub(begun.elapsed());
            let outcome = match soon {
                Some(outcome) => outcome,
                None => {
                    if let Some((runtime, lane)) = member.one_more() {
                        runtime.spawn(lane.fly(most, send()));
                    }
                    Box::pin(clock::timeout(rest(), member.late())).await?
                }
            };
            match outcome {
                Outcome::Reply(reply) => Ok(reply),
                Outcome::Late => Err(Late),
                Outcome::Gone => Ok(Box::pin(clock::timeout(rest(), alone())).await?),
            }
        }
    }

    fn join(&self, key: &str, hash: u64, question: impl FnOnce() -> Q) -> Joined<'_, Q, T> {
        let alone = |solo| (Way::Alone { _solo: solo }, None);
        // Outside a runtime there are neither tasks nor timers.
        let Ok(handle) = Handle::try_current() else { return alone(None) };
        let runtime = handle.id();
        let at = BuildHasherDefault::<Taken>::default().hash_one(runtime) % QUEUES as u64;
        let queue = &self.queues[usize::try_from(at).unwrap_or(0)];
        let mut state = queue.lock();
        if state.lanes == 0 && state.solos < SOLOS {
            state.solos += 1;
            return alone(Some(Solo(queue)));
        }
        if state.lanes > 0 && state.runtime != Some(runtime) {
            return alone(None);
        }
        let (usual, room) = (state.usual, state.room);
        let batch = state.open.get_or_insert_with(|| Arc::new(Batch::open(usual)));
        let Some(seat) = batch.board(key, hash, room, question) else { return alone(None) };
        let member = Member { queue, batch: Arc::clone(batch), seat };
        let lane = (state.lanes < LANES).then(|| {
            state.runtime = Some(runtime);
            (handle, Lane::of(queue, &mut state, false))
        });
        (Way::Shared(member), lane)
    }
}

impl<Q, T> Queue<Q, T> {
    fn lock(&self) -> MutexGuard<'_, State<Q, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q, T> State<Q, T> {
    fn idle() -> Self {
        Self { runtime: None, solos: 0, lanes: 0, open: None, usual: 0, room: Room::new() }
    }
}

impl<Q, T> Drop for Solo<'_, Q, T> {
    fn drop(&mut self) {
        self.0.lock().solos -= 1;
    }
}

impl<Q, T> Member<'_, Q, T> {
    /// A lane for a batch that begins to be late, and that none has come for.
    fn one_more(&self) -> Option<(Handle, Lane<Q, T>)> {
        let mut state = self.queue.lock();
        let is_waiting = state.open.as_ref().is_some_and(|open| Arc::ptr_eq(open, &self.batch));
        let runtime = Handle::try_current().ok().filter(|runtime| state.runtime == Some(runtime.id()))?;
        (is_waiting && self.batch.asks_for_a_lane())
            .then(|| (runtime, Lane::of(self.queue, &mut state, true)))
    }
}

impl<Q, T: Clone> Member<'_, Q, T> {
    /// What the batch brings; nothing: it is late.
    async fn soon(&self) -> Option<Outcome<T>> {
        loop {
            let rung = self.batch.rung();
            if let Some(outcome) = self.batch.take(self.seat) {
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
        loop {
            let rung = self.batch.rung();
            if let Some(outcome) = self.batch.take(self.seat) {
                return outcome;
            }
            rung.await;
        }
    }
}

/// Sends batches, one after the other.
struct Lane<Q, T> {
    queue: Arc<Queue<Q, T>>,
    /// In the air.
    batch: Option<Arc<Batch<Q, T>>>,
    /// It flies once.
    is_extra: bool,
    ended: bool,
}

impl<Q, T> Lane<Q, T> {
    /// One more of this queue.
    fn of(queue: &Arc<Queue<Q, T>>, state: &mut State<Q, T>, is_extra: bool) -> Self {
        state.lanes += 1;
        Self { queue: Arc::clone(queue), batch: None, is_extra, ended: false }
    }
}

impl<Q: Question, T: Clone> Lane<Q, T> {
    async fn fly(mut self, most: Duration, send: impl Fn(Vec<Q>) -> Answers<T>) {
        loop {
            // Those who are about to ask come aboard.
            tokio::task::yield_now().await;
            let Some(batch) = self.take_off() else { return };
            let (questions, begun) = (batch.seal(), Instant::now());
            let keys = questions.len();
            let answers = tokio::time::timeout(most, send(questions)).await;
            self.queue.lock().room.learn(keys, begun.elapsed(), most);
            batch.land(answers);
            self.batch = None;
            if self.is_extra {
                self.queue.lock().lanes -= 1;
                self.ended = true;
                return;
            }
        }
    }

    /// The next batch, sealed; if there is none, the lane ends.
    fn take_off(&mut self) -> Option<Arc<Batch<Q, T>>> {
        let mut state = self.queue.lock();
        self.batch = state.open.take();
        match &self.batch {
            Some(batch) => state.usual = batch.len(),
            None => {
                state.lanes -= 1;
                self.ended = true;
            }
        }
        self.batch.clone()
    }
}

impl<Q, T> Drop for Lane<Q, T> {
    /// In the middle of a flight, its members read for themselves, and so do those who wait for it.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.queue.lock();
        state.lanes -= 1;
        let open = state.open.take();
        drop(state);
        for batch in self.batch.take().into_iter().chain(open) {
            batch.give_up();
        }
    }
}

/// A hash of what is a hash, or a number, already.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    /// What tokio's ids are made of is its own business.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
