//! Whether hits are allowed: how the connection does that says which keys have changed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{AtomicCoarse, Coarse};

/// Read by every hit, written once a second: aligned, so that nothing hotter shares its line.
#[repr(align(128))]
pub(super) struct Pulse {
    /// No hits after this.
    alive_until: AtomicCoarse,
    /// What was read in an earlier epoch is no hit.
    epoch: AtomicU64,
    /// For how many nanoseconds what is read in this epoch may be kept.
    most: AtomicU64,
    /// For how long a sign of life counts.
    delta: Duration,
    /// The line that signs of life are taken from. Whoever writes holds this lock.
    line: Mutex<Option<Line>>,
}

/// One tracking connection, from [`connected`](super::Near::connected) on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line(u64);

impl Pulse {
    /// No hits, until it is told what to expect.
    pub(super) fn new(delta: Duration) -> Self {
        Self {
            alive_until: AtomicCoarse::new(Coarse::PAST),
            epoch: AtomicU64::new(0),
            most: AtomicU64::new(u64::MAX),
            delta,
            line: Mutex::new(None),
        }
    }

    #[inline]
    pub(super) fn beats(&self, now: Coarse) -> bool {
        now <= self.alive_until.get()
    }

    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The epoch, and for how long what is read in it may be kept.
    pub(super) fn epoch_and_most(&self) -> (u64, Duration) {
        // In this order: the limit of a later epoch does no harm to what this one's end will end.
        (self.epoch(), Duration::from_nanos(self.most.load(Ordering::Acquire)))
    }

    /// All that was read before is no hit any more.
    pub(super) fn pass(&self) {
        let _line = self.lock();
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn connected(&self, sent: Coarse) -> Line {
        let mut line = self.lock();
        let connected = Line(self.turn(self.until(sent), Duration::MAX));
        *line = Some(connected);
        connected
    }

    pub(super) fn alive(&self, line: Line, sent: Coarse) {
        let current = self.lock();
        if *current == Some(line) {
            self.alive_until.set(self.until(sent).max(self.alive_until.get()));
        }
    }

    /// No news if another line has taken its place already.
    pub(super) fn disconnected(&self, line: Line) {
        let mut current = self.lock();
        if *current == Some(line) {
            self.turn(Coarse::PAST, Duration::MAX);
            *current = None;
        }
    }

    pub(super) fn silence(&self) {
        let mut line = self.lock();
        self.turn(Coarse::PAST, Duration::MAX);
        *line = None;
    }

    pub(super) fn always_alive(&self) {
        let mut line = self.lock();
        self.turn(Coarse::NEVER, Duration::MAX);
        *line = None;
    }

    pub(super) fn without_tracking(&self) {
        let mut line = self.lock();
        self.turn(Coarse::NEVER, self.delta());
        *line = None;
    }

    /// A new epoch under new rules. Its limit stands before it begins, its hits are allowed after.
    fn turn(&self, alive_until: Coarse, most: Duration) -> u64 {
        self.alive_until.set(Coarse::PAST);
        self.most.store(u64::try_from(most.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        self.alive_until.set(alive_until);
        epoch
    }

    fn until(&self, sent: Coarse) -> Coarse {
        sent.after(self.delta())
    }

    /// What is left of it for a clock that lags by up to a tick.
    fn delta(&self) -> Duration {
        self.delta.saturating_sub(Coarse::TICK)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
