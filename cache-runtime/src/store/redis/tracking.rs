//! The connection over which the server tells what changed (`CLIENT TRACKING`, default mode).
//!
//! What is kept in this process is read over a connection of its own, and the server pushes the name of
//! a key over it when the key changes. A push and the replies around it come in the order in which the
//! server saw things, and the keeper hears of the push before the later reply is handed out
//! (`tracker.rs`). So what counts is only where a value was read: over this connection it may be kept,
//! over the main one it may not, because nobody would tell.
//!
//! It is made when something is first read for keeping, and again when it is missed: its task
//! (`tracker.rs`) makes one connection, tends it, and is gone with it. Nobody waits for that: meanwhile the
//! main connection is asked. It goes with the main one: when that is lost, or distrusted because
//! invalidations wait, this one ends too, and whatever is read before they are through isn't kept.
//!
//! A connection that has ended is replaced, never mended: the keeper has heard `disconnected`, and has
//! dropped everything, before the next one is even begun.

mod read;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::link::LinkOptions;
use super::supervisor::SETUP;
use crate::clock;
use crate::store::Keeper;

/// How long one may be in the making: more than all its steps.
const ABSENT: u64 = 3_000;

pub(super) struct Tracking {
    keeper: OnceLock<Arc<dyn Keeper>>,
    // std mutex: never held across an await. The keeper hears of a connection's begin, life and end under
    // it: so in order, and no sign of life of one connection is taken for one of the next.
    office: Mutex<Office>,
    /// A slot that a node of a cluster has, and a key in it.
    probe: Mutex<Option<(u16, Arc<str>)>>,
    /// Rung when the connection has ended.
    pub(super) attention: Notify,
    /// How many reads in a row weren't answered in time.
    unanswered: AtomicU32,
    options: LinkOptions,
}

struct Office {
    state: State,
    /// How many were begun.
    number: u64,
    /// By the coarse clock: when the last question that was answered was sent.
    heard: u64,
    /// How long the next pause is.
    pause: Duration,
    /// How many attempts in a row came to nothing.
    failed: u32,
    /// It was said that there is none.
    said: bool,
}

enum State {
    /// There is none, and until then (by `clock::millis`) none is made.
    Idle {
        until: u64,
    },
    Connecting {
        since: u64,
    },
    /// Beside the main connection of this epoch.
    Up {
        connection: MultiplexedConnection,
        main: u64,
        since: u64,
    },
    /// The server doesn't tell.
    Unable,
    Closed,
}

/// Where something is to be read.
enum Route {
    Tracked {
        connection: MultiplexedConnection,
        number: u64,
    },
    Main {
        may_keep: bool,
    },
    /// Over the main connection, and one of this number is to be made.
    Hire {
        number: u64,
        main: u64,
    },
}

impl Tracking {
    pub(super) fn new(options: LinkOptions) -> Self {
        let office = Office {
            state: State::Idle { until: 0 },
            number: 0,
            heard: 0,
            pause: options.reconnect.0,
            failed: 0,
            said: false,
        };
        Self {
            keeper: OnceLock::new(),
            office: Mutex::new(office),
            probe: Mutex::default(),
            attention: Notify::new(),
            unanswered: AtomicU32::new(0),
            options,
        }
    }

    fn office(&self) -> MutexGuard<'_, Office> {
        self.office.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has this slot; `key` makes a key in it.
    pub(super) fn probe(&self, slot: u16, key: impl FnOnce() -> String) {
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        if probe.as_ref().is_none_or(|(known, _)| *known != slot) {
            *probe = Some((slot, key().into()));
        }
    }

    /// A key that the server has, if it has only some.
    pub(super) fn probed(&self) -> Option<Arc<str>> {
        let probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        probe.as_ref().map(|(_, key)| Arc::clone(key))
    }

    /// Who hears of it.
    pub(super) fn tell(&self, keeper: Arc<dyn Keeper>) {
        let _ = self.keeper.set(keeper);
    }

    pub(super) fn keeper(&self) -> Option<&Arc<dyn Keeper>> {
        self.keeper.get()
    }

    fn inform(&self, of: impl FnOnce(&dyn Keeper)) {
        if let Some(keeper) = self.keeper() {
            of(&**keeper);
        }
    }

    /// Where to read, beside the main connection of this epoch.
    fn route(&self, main: u64) -> Route {
        let mut office = self.office();
        let now = clock::millis();
        let is_vacant = match &office.state {
            State::Up { connection, main: of, .. } if *of == main && self.is_heard(&office) => {
                return Route::Tracked { connection: connection.clone(), number: office.number };
            }
            State::Unable => return Route::Main { may_keep: true },
            // Beside an earlier one, published while that was being lost; or nobody polls its task any more.
            State::Up { main: of, .. } => {
                if *of <= main {
                    self.finish(&mut office, "it was left alone");
                    drop(office);
                    self.sweep();
                }
                return Route::Main { may_keep: false };
            }
            State::Connecting { since } => now.saturating_sub(*since) > ABSENT,
            State::Idle { until } => now >= *until,
            State::Closed => false,
        };
        if !is_vacant || self.keeper.get().is_none() || Handle::try_current().is_err() {
            return Route::Main { may_keep: false };
        }
        office.number += 1;
        office.state = State::Connecting { since: now };
        Route::Hire { number: office.number, main }
    }

    fn is_heard(&self, office: &Office) -> bool {
        u128::from(clock::coarse().saturating_sub(office.heard)) <= self.options.delta.as_millis()
    }

    /// How long a question may go unanswered.
    pub(super) fn delta(&self) -> Duration {
        self.options.delta
    }

    /// What is read over it from now on may be kept. False if it has ended before it began.
    pub(super) fn publish(
        &self,
        number: u64,
        connection: MultiplexedConnection,
        main: u64,
        sent: u64,
    ) -> bool {
        let mut office = self.office();
        let is_next = office.number == number && matches!(office.state, State::Connecting { .. });
        if is_next {
            self.inform(|keeper| keeper.connected(sent));
            office.heard = sent;
            (office.failed, office.said) = (0, false);
            self.unanswered.store(0, Relaxed);
            office.state = State::Up { connection, main, since: clock::millis() };
            debug!(target: "cache_aside", "the server tells what changes: values are kept in this process");
        }
        drop(office);
        self.sweep();
        is_next
    }

    /// Whether the connection of this number is the one in use.
    pub(super) fn is_up(&self, number: u64) -> bool {
        let office = self.office();
        office.number == number && matches!(office.state, State::Up { .. })
    }

    /// A question was answered that was sent then.
    pub(super) fn alive(&self, number: u64, sent: u64) {
        let mut office = self.office();
        if office.number == number && matches!(office.state, State::Up { .. }) {
            self.inform(|keeper| keeper.alive(sent));
            office.heard = sent;
        }
    }

    /// The server doesn't tell: values that are kept in this process grow old without its word.
    pub(super) fn unable(&self, number: u64, why: &str) {
        let mut office = self.office();
        if office.number == number && matches!(office.state, State::Connecting { .. }) {
            self.inform(<dyn Keeper>::without_tracking);
            office.state = State::Unable;
            if !std::mem::replace(&mut office.said, true) {
                let most = self.options.delta;
                warn!(target: "cache_aside", why, ?most, "the server doesn't tell what changes (`CLIENT TRACKING`): values are kept in this process for a moment only");
            }
        }
        drop(office);
        self.sweep();
    }

    /// Ends the connection, if it is of this number, or whatever there is. When this returns, the keeper
    /// has dropped what was read over it.
    pub(super) fn end(&self, of: Option<u64>, why: &str) {
        let mut office = self.office();
        let is_meant = match office.state {
            State::Unable => of.is_none(),
            _ => of.is_none_or(|of| of == office.number),
        };
        if is_meant {
            self.finish(&mut office, why);
            drop(office);
            self.sweep();
        }
    }

    /// Nothing of what has ended is used any more; this gives back its memory. Not under the lock: it
    /// takes a while, and values are dropped by code of their own.
    fn sweep(&self) {
        self.inform(<dyn Keeper>::sweep);
    }

    fn finish(&self, office: &mut Office, why: &str) {
        let now = clock::millis();
        match office.state {
            State::Idle { .. } | State::Closed => return,
            State::Connecting { .. } => {
                debug!(target: "cache_aside", why, "no connection that tells what changes");
                office.failed += 1;
                if office.failed >= self.options.breaker && !std::mem::replace(&mut office.said, true) {
                    warn!(target: "cache_aside", why, "no connection that tells what changes can be made (`CLIENT TRACKING`): nothing is kept in this process until there is one");
                }
            }
            State::Up { since, .. } => {
                self.inform(<dyn Keeper>::disconnected);
                info!(target: "cache_aside", why, "the connection that tells what changes has ended: what was kept in this process is dropped");
                // A connection that held is made anew soon; one that breaks again and again isn't.
                if u128::from(now.saturating_sub(since)) > SETUP.as_millis() {
                    office.pause = self.options.reconnect.0;
                }
            }
            State::Unable => self.inform(<dyn Keeper>::disconnected),
        }
        let pause = office.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        office.pause = (office.pause * 2).min(self.options.reconnect.1);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        office.state = State::Idle { until: now.saturating_add(pause) };
        self.attention.notify_one();
    }

    /// Ends it for good.
    pub(super) fn close(&self) {
        let mut office = self.office();
        if let State::Up { .. } | State::Unable = office.state {
            self.inform(<dyn Keeper>::disconnected);
        }
        office.state = State::Closed;
        self.attention.notify_one();
        drop(office);
        self.sweep();
    }
}

#[cfg(test)]
mod tests;
