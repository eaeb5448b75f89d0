//! What is asked for in one flush, and who waits for it. When it is sent, `reads.rs` decides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::Sleep;
use tokio::time::error::Elapsed;

use super::room::Room;
use super::{PATIENCE, Question, Taken};
use crate::error::StoreError;

pub(super) struct Batch<Q, T> {
    // std mutex: never held across an await
    state: Mutex<State<Q, T>>,
    bell: Arc<Bell>,
    has_asked: AtomicBool,
    /// Rings when its members begin to be late.
    _watch: Pin<Box<Unconstrained<Sleep>>>,
}

enum State<Q, T> {
    Open {
        questions: Vec<Q>,
        /// How many ask each of them.
        members: Vec<usize>,
        /// Which of them has this hash.
        places: HashMap<u64, usize, BuildHasherDefault<Taken>>,
    },
    /// How many wait for each answer.
    Sealed(Vec<usize>),
    Landed(Vec<(usize, Option<Result<T, StoreError>>)>),
    Late,
    Gone,
}

/// What a batch brings for one of its members.
pub(super) enum Outcome<T> {
    Reply(Result<T, StoreError>),
    /// The server was waited for as long as anybody may.
    Late,
    /// It will bring nothing: everybody for himself.
    Gone,
}

/// Wakes all members.
#[derive(Default)]
struct Bell {
    notify: Notify,
    is_late: AtomicBool,
}

impl<Q, T> Batch<Q, T> {
    /// With room for so many keys.
    pub(super) fn open(room: usize) -> Self {
        let bell = Arc::<Bell>::default();
        // Where a task has used up its turn a timer would ring at once instead of being set.
        let mut watch = Box::pin(unconstrained(tokio::time::sleep(PATIENCE)));
        let waker = Waker::from(Arc::clone(&bell));
        let _ = watch.as_mut().poll(&mut Context::from_waker(&waker));
        let state = State::Open {
            questions: Vec::with_capacity(room),
            members: Vec::with_capacity(room),
            places: HashMap::with_capacity_and_hasher(room, BuildHasherDefault::default()),
        };
        Self { state: Mutex::new(state), bell, has_asked: AtomicBool::new(false), _watch: watch }
    }

    fn lock(&self) -> MutexGuard<'_, State<Q, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        match &*self.lock() {
            State::Open { questions, .. } => questions.len(),
            _ => 0,
        }
    }

    pub(super) fn is_late(&self) -> bool {
        self.bell.is_late.load(Relaxed)
    }

    /// True for the first of its members who asks when it is late.
    pub(super) fn asks_for_a_lane(&self) -> bool {
        self.is_late() && !self.has_asked.swap(true, Relaxed)
    }

    /// Ends with the next ring, from now on.
    pub(super) fn rung(&self) -> Notified<'_> {
        self.bell.notify.notified()
    }

    fn end(&self, end: State<Q, T>) {
        *self.lock() = end;
        self.bell.notify.notify_waiters();
    }

    /// Nothing will come.
    pub(super) fn give_up(&self) {
        self.end(State::Gone);
    }
}

impl<Q: Question, T> Batch<Q, T> {
    /// One more member; nothing: there is no room for its question.
    pub(super) fn board(
        &self,
        key: &str,
        hash: u64,
        room: Room,
        question: impl FnOnce() -> Q,
    ) -> Option<usize> {
        let mut state = self.lock();
        let State::Open { questions, members, places } = &mut *state else { return None };
        let is_full = questions.len() >= room.keys();
        match places.entry(hash) {
            Entry::Occupied(there) => {
                let seat = *there.get();
                // Another key of this hash: once in a blue moon.
                let same = questions.get(seat).is_some_and(|there| there.key() == key);
                same.then(|| {
                    members[seat] += 1;
                    seat
                })
            }
            Entry::Vacant(_) if is_full => None,
            Entry::Vacant(place) => {
                questions.push(question());
                members.push(1);
                Some(*place.insert(questions.len() - 1))
            }
        }
    }

    /// What is to be sent; nobody boards any more.
    pub(super) fn seal(&self) -> Vec<Q> {
        let mut state = self.lock();
        let State::Open { questions, members, .. } = &mut *state else { return Vec::new() };
        let (questions, members) = (std::mem::take(questions), std::mem::take(members));
        *state = State::Sealed(members);
        questions
    }
}

impl<Q, T: Clone> Batch<Q, T> {
    /// The answers to what was sealed, or why there are none.
    pub(super) fn land(&self, answers: Result<Result<Vec<Result<T, StoreError>>, StoreError>, Elapsed>) {
        let members = match &mut *self.lock() {
            State::Sealed(members) => std::mem::take(members),
            _ => return,
        };
        self.end(match answers {
            Ok(Ok(answers)) if answers.len() == members.len() => {
                State::Landed(members.into_iter().zip(answers.into_iter().map(Some)).collect())
            }
            Ok(Ok(_)) => State::Gone,
            Ok(Err(error)) => {
                State::Landed(members.into_iter().map(|many| (many, Some(Err(error.clone())))).collect())
            }
            Err(_) => State::Late,
        });
    }

    /// What it brings for who sits here; nothing: not yet. To be taken once.
    pub(super) fn take(&self, seat: usize) -> Option<Outcome<T>> {
        match &mut *self.lock() {
            State::Open { .. } | State::Sealed(_) => None,
            State::Late => Some(Outcome::Late),
            State::Gone => Some(Outcome::Gone),
            State::Landed(answers) => {
                let (left, answer) = answers.get_mut(seat)?;
                *left = left.saturating_sub(1);
                // The last one needs no copy.
                let answer = if *left == 0 { answer.take() } else { answer.clone() };
                Some(answer.map_or(Outcome::Gone, Outcome::Reply))
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_late.store(true, Relaxed);
        self.notify.notify_waiters();
    }
}
