//! The connection, what is sent over it, and when it is given up.
//!
//! All callers share one multiplexed connection. A task of its own makes it, carries out the
//! invalidations that were kept meanwhile, and only then publishes it. No caller waits for a
//! connection that is being made again: while there is none, answers are errors at once. Only the
//! first callers, and those after the runtime of the supervisor has ended, wait for it, within
//! their budget.
//!
//! The breaker is the same thing: after so many operations in a row that weren't answered in time,
//! the connection is taken away, and the supervisor, not a caller, tries whether the server is back. Nor
//! is it an answer that it may be so in a moment (`LOADING`, `CLUSTERDOWN`): who asks again until the
//! time is up has spent as much on it.

mod office;
mod part;
mod place;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::Notify;
use tracing::{error, warn};

pub(crate) use self::part::Part;
pub(super) use self::place::Place;
use super::abilities::Abilities;
use super::fault::{self, Reaction, Redirect};
use super::scan::{Unlinked, unlink_matching};
use super::tracking::Tracking;
use crate::clock;
use crate::error::StoreError;
use crate::recovery::Kept;
use crate::store::Reach;

/// How long a broken connection is waited for by who was using it.
const MOMENT: Duration = Duration::from_millis(50);
/// The pause before a command that a server in transition refused is sent again.
const AGAIN: Duration = Duration::from_millis(10);

/// How the link behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkOptions {
    /// How long an operation may take.
    pub(crate) budget: Duration,
    /// After how many unanswered operations in a row the connection is given up.
    pub(crate) breaker: u32,
    /// The first and the longest pause between attempts to connect.
    pub(crate) reconnect: (Duration, Duration),
    /// How long a tracked connection may give no sign of life.
    pub(crate) delta: Duration,
    pub(crate) part: Part,
}

pub(super) struct Link {
    place: Place,
    pub(super) options: LinkOptions,
    pub(super) kept: Arc<Kept>,
    // std mutex: never held across an await
    state: Mutex<State>,
    /// Rung when the state changes.
    changed: Notify,
    /// Rung when the supervisor should look at the connection.
    pub(super) attention: Notify,
    unanswered: AtomicU32,
    /// The server doesn't speak RESP3.
    pub(super) resp2: AtomicBool,
    /// The number of the supervisor in office, and when it last gave a sign of life.
    office: AtomicU64,
    alive: AtomicU64,
    epochs: AtomicU64,
    /// Since when nobody holds the cache any more, though invalidations are kept; 0: it is held.
    closing: AtomicU64,
    shouted: Mutex<BTreeSet<String>>,
    pub(super) tracking: Tracking,
    pub(super) abilities: Abilities,
}

pub(super) enum State {
    /// Nobody takes care of a connection.
    Idle,
    /// The first attempt is under way.
    Connecting,
    Up {
        connection: MultiplexedConnection,
        epoch: u64,
    },
    /// There is none, for this reason; the supervisor tries again.
    Down(String),
    Closed,
}

impl Link {
    pub(super) fn new(place: Place, options: LinkOptions, kept: Arc<Kept>) -> Self {
        Self {
            place,
            options,
            kept,
            state: Mutex::new(State::Idle),
            changed: Notify::new(),
            attention: Notify::new(),
            unanswered: AtomicU32::new(0),
            resp2: AtomicBool::new(false),
            office: AtomicU64::new(0),
            alive: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            shouted: Mutex::default(),
            tracking: Tracking::new(options),
            abilities: Abilities::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one command. `repeat`: it may be sent again over a new connection if this one is gone.
    pub(super) async fn send(self: &Arc<Self>, command: &Cmd, repeat: bool) -> Result<Value, StoreError> {
        let mut repeat = repeat;
        loop {
            let (mut connection, epoch) = self.connection().await?;
            match self.options.part.one(&mut connection, command).await.and_then(Value::extract_error) {
                Ok(reply) => {
                    self.answered();
                    return Ok(reply);
                }
                Err(error) => match self.react(&error, epoch) {
                    // The runtime that drove the connection may have ended, and its supervisor a moment
                    // later: this runtime drives the next one.
                    (_, Reaction::Replace) if repeat => {
                        repeat = false;
                        self.settle().await;
                    }
                    (_, Reaction::Again) => tokio::time::sleep(AGAIN).await,
                    (error, _) => return Err(error),
                },
            }
        }
    }

    /// Gives the supervisor a moment to notice that its connection is gone.
    async fn settle(&self) {
        let changed = self.changed.notified();
        if matches!(*self.state(), State::Down(_)) {
            let _ = tokio::time::timeout(MOMENT, changed).await;
        }
    }

    /// Sends commands in one flush; each has its own reply.
    pub(super) async fn send_all(
        self: &Arc<Self>,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let (mut connection, epoch) = self.connection().await?;
        match self.options.part.many(&mut connection, commands).await {
            Ok(replies) => Ok(self.read(replies, epoch).0),
            Err(error) => Err(self.react(&error, epoch).0),
        }
    }

    /// As [`send_all`](Self::send_all), for so many commands.
    pub(super) async fn send_many<const N: usize>(
        self: &Arc<Self>,
        commands: &Pipeline,
    ) -> Result<[Result<Value, StoreError>; N], StoreError> {
        let replies = self.send_all(commands).await?;
        self.expect(replies.try_into().ok())
    }

    /// As [`send_many`](Self::send_many), for what may be sent twice, as `send` says.
    pub(super) async fn ask_many<const N: usize>(
        self: &Arc<Self>,
        commands: &Pipeline,
    ) -> Result<[Result<Value, StoreError>; N], StoreError> {
        let replies = self.ask_all(commands).await?;
        self.expect(replies.try_into().ok())
    }

    /// As [`send_all`](Self::send_all), for what may be sent twice, as `send` says.
    pub(super) async fn ask_all(
        self: &Arc<Self>,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let mut repeat = true;
        loop {
            let (mut connection, epoch) = self.connection().await?;
            match self.options.part.many(&mut connection, commands).await {
                Ok(replies) => match self.read(replies, epoch) {
                    (_, true) => tokio::time::sleep(AGAIN).await,
                    (replies, false) => return Ok(replies),
                },
                Err(error) => match self.react(&error, epoch) {
                    (_, Reaction::Replace) if repeat => {
                        repeat = false;
                        self.settle().await;
                    }
                    (_, Reaction::Again) => tokio::time::sleep(AGAIN).await,
                    (error, _) => return Err(error),
                },
            }
        }
    }

    /// What these replies say, and whether one of them may be another in a moment.
    fn read(&self, replies: Vec<Value>, epoch: u64) -> (Vec<Result<Value, StoreError>>, bool) {
        let mut again = false;
        let read = |reply: Value| {
            reply.extract_error().map_err(|error| {
                let (error, reaction) = self.react(&error, epoch);
                again |= reaction == Reaction::Again;
                error
            })
        };
        let replies = replies.into_iter().map(read).collect();
        if !again {
            self.answered();
        }
        (replies, again)
    }

    /// A reply of the form that the command has; any other shows that replies and commands no
    /// longer match, so the connection is given up.
    pub(super) fn expect<T>(&self, reply: Option<T>) -> Result<T, StoreError> {
        reply.ok_or_else(|| {
            self.distrust("a reply doesn't belong to its command");
            StoreError::Unavailable("a reply doesn't belong to its command".to_owned())
        })
    }

    /// Scans for keys that fit and unlinks them, step by step; each step has the budget.
    ///
    /// All steps go over one connection: a cursor means nothing to another server.
    pub(super) async fn remove_matching(
        self: &Arc<Self>,
        glob: &str,
        reach: Reach,
    ) -> Result<Unlinked, StoreError> {
        let (mut connection, epoch) = self.connection().await?;
        let removed =
            unlink_matching(&mut connection, glob, reach, self.options.budget, self.options.part).await;
        match removed {
            Ok(removed) => {
                self.answered();
                Ok(removed)
            }
            Err(error) if error.is_timeout() => {
                self.overdue();
                Err(StoreError::Timeout("no answer within the budget".to_owned()))
            }
            Err(error) => Err(self.react(&error, epoch).0),
        }
    }

    fn answered(&self) {
        if self.unanswered.load(Relaxed) != 0 {
            self.unanswered.store(0, Relaxed);
        }
    }

    /// An operation was given up by its caller.
    pub(super) fn overdue(&self) {
        let in_a_row = self.unanswered.fetch_add(1, Relaxed) + 1;
        if in_a_row >= self.options.breaker {
            self.distrust("the server doesn't answer");
        }
    }

    /// The connection is not to be used any more, whatever state it is in.
    pub(super) fn distrust(&self, why: &'static str) {
        self.lose(None, why);
    }

    /// Gives up the connection for good.
    pub(super) fn close(&self) {
        self.tracking.close();
        *self.state() = State::Closed;
        self.attention.notify_one();
        self.changed.notify_waiters();
    }

    /// The last handle of the cache is gone: closes, after what is kept was carried out.
    pub(super) fn retire(self: &Arc<Self>) {
        if matches!(*self.state(), State::Closed) {
            return;
        }
        self.tracking.close();
        if self.kept.is_empty() {
            return self.close();
        }
        self.closing.store(clock::millis().max(1), Relaxed);
        if self.recruit().is_none() {
            self.attention.notify_one();
        }
    }

    /// How long it has been closing.
    pub(super) fn closing(&self) -> Option<Duration> {
        match self.closing.load(Relaxed) {
            0 => None,
            since => Some(Duration::from_millis(clock::millis().saturating_sub(since))),
        }
    }

    fn react(&self, error: &redis::RedisError, epoch: u64) -> (StoreError, Reaction) {
        let (error, reaction) = fault::read(error);
        if self.options.part == Part::Whole
            && let Some(redirect) = fault::redirect(&error)
        {
            let Redirect { host, port, .. } = redirect;
            self.shout(&StoreError::Refused(format!(
                "the server is a node of a cluster: write REDIS_URL=redis+cluster://{host}:{port}"
            )));
        }
        match reaction {
            Reaction::Replace => self.lose(Some(epoch), "the connection broke"),
            Reaction::Shout => self.shout(&error),
            Reaction::Keep | Reaction::Again => {}
        }
        (error, reaction)
    }

    /// Takes the connection away, if it is still the one of this epoch.
    pub(super) fn lose(&self, of: Option<u64>, why: &str) {
        let is_lost = |state: &State| match *state {
            State::Up { epoch, .. } => of.is_none_or(|of| of == epoch),
            // A server that takes connections and says nothing: nobody waits for it any more.
            State::Connecting => of.is_none(),
            State::Idle | State::Down(_) | State::Closed => false,
        };
        if is_lost(&self.state()) {
            // First of all: who finds a new connection finds nothing that was kept under the old one.
            self.tracking.end(None, why);
        }
        let mut state = self.state();
        if is_lost(&state) {
            let was_up = matches!(*state, State::Up { .. });
            *state = State::Down(why.to_owned());
            drop(state);
            // One that began in between, beside a connection that was lost already.
            self.tracking.end(None, why);
            warn!(target: "cache_aside", server = self.address().shown(), why, "the connection is given up: functions run uncached until there is another");
            if was_up {
                self.attention.notify_one();
            }
            self.changed.notify_waiters();
        }
    }

    pub(super) fn shout(&self, problem: &StoreError) {
        let text = problem.to_string();
        let mut shouted = self.shouted.lock().unwrap_or_else(PoisonError::into_inner);
        if shouted.len() < 100 && shouted.insert(text.clone()) {
            error!(target: "cache_aside", server = self.address().shown(), problem = text, "the server refuses: check the URL, user, password and permissions");
        }
    }
}
