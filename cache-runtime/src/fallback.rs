//! The stale value that a call falls back on: when it may, and how long it waits for something newer.

use std::time::Duration;

use crate::clock;
use crate::record::Claim;
use crate::sight::{Ask, Hit, Sight};

/// What one call has seen that is past its time to live.
#[derive(Debug, Default)]
pub(crate) struct Fallback {
    // Boxed: most calls have none.
    hit: Option<Box<Hit>>,
    /// Until when something newer is waited for, by `clock::millis`.
    until: Option<u64>,
    waited: bool,
}

impl Fallback {
    /// Keeps the stale value as long as it is the last that was seen: what was invalidated since
    /// answers nobody.
    pub(crate) fn note(&mut self, sight: &Sight, ask: &Ask) {
        match sight {
            Sight::Stale(hit, _) if ask.takes_stale() => {
                self.hit = Some(Box::new(hit.clone()));
                if let (None, Some(timeout)) = (self.until, ask.site.and_then(|site| site.timeout)) {
                    let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                    self.until = Some(clock::millis().saturating_add(timeout));
                }
            }
            // Whether it is still there is asked before it answers.
            Sight::Dark => {}
            _ => self.hit = None,
        }
    }

    /// Something newer is being waited for.
    pub(crate) fn wait(&mut self) {
        self.waited = true;
    }

    /// Whether the stale value that was just seen is good enough: a load failed a moment ago, or
    /// something newer was waited for as long as it may be.
    pub(crate) fn suffices(&self, claim: Claim) -> bool {
        let out_of_patience = self.left().is_some_and(|left| left.is_zero());
        self.hit.is_some() && (claim == Claim::Resting || (self.waited && out_of_patience))
    }

    /// How much longer something newer is waited for, where there is something to fall back on.
    pub(crate) fn left(&self) -> Option<Duration> {
        let until = self.until.filter(|_| self.hit.is_some())?;
        Some(Duration::from_millis(until.saturating_sub(clock::millis())))
    }

    /// The value, if it needs no second look: nothing was waited for since it was seen.
    pub(crate) fn at_once(&mut self) -> Option<Hit> {
        self.hit.take().filter(|_| !self.waited).map(|hit| *hit)
    }

    /// Hands the value over to a load, with how long its caller waits for that.
    pub(crate) fn take(&mut self) -> Option<(Hit, Option<Duration>)> {
        let patience = self.left().filter(|_| clock::has_timers());
        self.hit.take().map(|hit| (*hit, patience))
    }
}
