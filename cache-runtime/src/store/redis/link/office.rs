//! Who has the connection made: the supervisor in office, and how callers find one.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use redis::aio::MultiplexedConnection;
use tokio::runtime::Handle;

use super::{Link, State};
use crate::clock;
use crate::error::StoreError;
use crate::store::redis::supervisor::Supervisor;

/// How long a supervisor may give no sign of life: more than its longest step.
const ABSENT: u64 = 3_000;

impl Link {
    /// The connection; while the first one is being made, it is waited for.
    pub(in crate::store::redis) async fn connection(
        self: &Arc<Self>,
    ) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut recruited = false;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            match &*self.state() {
                State::Up { connection, epoch } => return Ok((connection.clone(), *epoch)),
                State::Closed => return Err(StoreError::Unavailable("it was closed".to_owned())),
                State::Down(why) if !self.is_absent() => return Err(StoreError::Unavailable(why.clone())),
                State::Down(_) | State::Connecting | State::Idle => {}
            }
            if let Some(hired) = self.recruit() {
                // A runtime that is ending drops what it is given at once.
                if !hired || std::mem::replace(&mut recruited, true) {
                    return Err(StoreError::Unavailable(
                        "there is no tokio runtime to connect on".to_owned(),
                    ));
                }
            }
            changed.await;
        }
    }

    /// Waits for a connection, and has none made.
    pub(in crate::store::redis) async fn until_up(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.epoch().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Puts a supervisor on this runtime, if none does its work; says whether that was possible.
    pub(super) fn recruit(self: &Arc<Self>) -> Option<bool> {
        let number = {
            let mut state = self.state();
            let vacant = match *state {
                State::Idle => true,
                State::Connecting | State::Down(_) => self.is_absent(),
                State::Up { .. } | State::Closed => false,
            };
            if !vacant {
                return None;
            }
            if Handle::try_current().is_err() {
                return Some(false);
            }
            *state = State::Connecting;
            self.beat();
            self.office.fetch_add(1, Relaxed) + 1
        };
        // Not under the lock: a runtime that is ending drops the task, and so the supervisor, right here.
        Handle::current().spawn(Supervisor::new(Arc::clone(self), number).run());
        Some(true)
    }

    /// Whether the supervisor's runtime isn't polled any more.
    fn is_absent(&self) -> bool {
        clock::millis().saturating_sub(self.alive.load(Relaxed)) > ABSENT
    }

    pub(in crate::store::redis) fn beat(&self) {
        self.alive.store(clock::millis(), Relaxed);
    }

    /// The number of the connection, if there is one.
    pub(in crate::store::redis) fn epoch(&self) -> Option<u64> {
        if let State::Up { epoch, .. } = *self.state() { Some(epoch) } else { None }
    }

    pub(in crate::store::redis) fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Relaxed) + 1
    }

    pub(in crate::store::redis) fn is_in_office(&self, number: u64) -> bool {
        self.office.load(Relaxed) == number && !matches!(*self.state(), State::Closed)
    }

    /// Sets the state, on behalf of the supervisor in office.
    pub(in crate::store::redis) fn set(&self, number: u64, new: State) {
        const WHY: &str = "the runtime of the connection beside it has ended";
        let takes_away = self.epoch().is_some() && self.is_in_office(number);
        if takes_away {
            self.tracking.end(None, WHY);
        }
        let mut state = self.state();
        if self.office.load(Relaxed) == number && !matches!(*state, State::Closed) {
            *state = new;
        }
        drop(state);
        if takes_away {
            // As in `lose`.
            self.tracking.end(None, WHY);
        }
        self.changed.notify_waiters();
    }

    /// Publishes a connection, unless an invalidation was kept since they were carried out.
    pub(in crate::store::redis) fn publish(
        &self,
        number: u64,
        connection: MultiplexedConnection,
        epoch: u64,
    ) -> bool {
        let mut state = self.state();
        if self.office.load(Relaxed) != number || matches!(*state, State::Closed) {
            return true;
        }
        if !self.kept.is_empty() {
            return false;
        }
        self.answered();
        *state = State::Up { connection, epoch };
        drop(state);
        self.changed.notify_waiters();
        true
    }
}
