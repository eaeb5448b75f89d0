//! Calls within a sliding window: what a rate limit counts.
//!
//! ```text
//! all calls 10 | for each batch of calls, oldest first: time of the last one 16 | how many 10
//! ```
//!
//! Decimal digits; the time is in microseconds, by the store's clock. Calls are batched if they come within
//! one *grain*, and a batch counts until its last call has left the window, so there are never too many in
//! any window; the first call of a batch may count for a grain too long. A limit of up to [`BATCHES`] calls
//! needs no grain: it is exact. (With two counters, as is usual, or with a leaky bucket, up to twice the limit
//! get through in one window: see `docs/around.md`.)
//!
//! `redis/script.rs` has the same in Lua.

use std::fmt::Write;
use std::time::Duration;

use crate::error::StoreError;

/// Into how many batches a window is divided.
const BATCHES: u32 = 32;
const TIME: usize = 16;
const COUNT: usize = 10;
/// A hundred years: times stay below 2^53, which is as far as Lua counts.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// So many calls in any window of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(super) max: u32,
    /// These in microseconds.
    pub(super) window: u64,
    pub(super) grain: u64,
}

impl Limit {
    /// At least one call, in at least a millisecond.
    pub(crate) fn new(max: u32, window: Duration) -> Self {
        let window = window.clamp(Duration::from_millis(1), LONGEST);
        let window = u64::try_from(window.as_micros()).expect("a hundred years are 3e15");
        let grain = if max <= BATCHES { 1 } else { window.div_ceil(BATCHES.into()) };
        Self { max: max.max(1), window, grain }
    }

    /// For how long a call may matter.
    pub(super) fn life(self) -> Duration {
        Duration::from_millis(self.window.div_ceil(1000))
    }
}

/// What a [`RateLimiter`](crate::RateLimiter) says to a call.
#[must_use = "a call that is limited is to be refused"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The call is within the limit, and counted.
    Allowed {
        /// How many more would be allowed now.
        remaining: u32,
        /// When `remaining` grows again, unless there are more calls: after this time the oldest of those
        /// that count is forgotten.
        reset_after: Duration,
    },
    /// The call is beyond the limit, and not counted.
    Limited {
        /// After this time one call is allowed, unless somebody else comes first.
        retry_after: Duration,
    },
}

impl Decision {
    /// Whether the call is within the limit.
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

/// What somebody else wrote is under the key.
pub(super) const FOREIGN: &str = "ERR the key holds something else than counted calls";

#[derive(Clone, Copy)]
struct Batch {
    last: u64,
    count: u64,
}

impl Batch {
    const DIGITS: usize = TIME + COUNT;

    /// The one that begins at this digit, if there are more.
    fn at(log: &str, at: usize) -> Option<Self> {
        let count = at + TIME;
        Some(Self { last: number(log, at, TIME)?, count: number(log, count, COUNT)? })
    }

    fn write(self, log: &mut String) {
        let Self { last, count } = self;
        write!(log, "{last:0TIME$}{count:0COUNT$}").expect("a string takes all");
    }

    /// How long it counts.
    fn left(self, now: u64, limit: Limit) -> Duration {
        Duration::from_micros((self.last + limit.window).saturating_sub(now))
    }
}

fn number(log: &str, at: usize, digits: usize) -> Option<u64> {
    log.get(at..at + digits)?.parse().ok()
}

/// One more call at `now`, after those in `log`: the decision, and the new log if it is allowed.
pub(super) fn admit(log: &[u8], now: u64, limit: Limit) -> Result<(Decision, Option<String>), StoreError> {
    within(log, now, limit).ok_or_else(|| StoreError::Refused(FOREIGN.to_owned()))
}

/// Nothing if the log isn't ours.
fn within(log: &[u8], now: u64, limit: Limit) -> Option<(Decision, Option<String>)> {
    let log = if log.is_empty() { "0000000000" } else { str::from_utf8(log).ok()? };
    let mut total = number(log, 0, COUNT)?;
    let mut batches = log.get(COUNT..).filter(|batches| batches.len() % Batch::DIGITS == 0)?.to_owned();
    let mut old = 0;
    while old < batches.len() {
        let oldest = Batch::at(&batches, old)?;
        if oldest.last + limit.window > now {
            break;
        }
        total = total.checked_sub(oldest.count)?;
        old += Batch::DIGITS;
    }
    batches.drain(..old);
    let newest_at = batches.len().checked_sub(Batch::DIGITS);
    let mut newest = newest_at.and_then(|at| Batch::at(&batches, at));
    if newest.is_some_and(|newest| newest.last > now) {
        // The clock was set back: all count for as long as one that comes now.
        let all = Batch { last: now, count: total };
        batches.clear();
        all.write(&mut batches);
        newest = Some(all);
    }
    if let Some(mut beyond) = total.checked_sub(limit.max.into()) {
        let (mut at, mut oldest) = (0, Batch::at(&batches, 0)?);
        // More than one has to leave if the limit was higher before.
        while oldest.count <= beyond {
            beyond -= oldest.count;
            at += Batch::DIGITS;
            oldest = Batch::at(&batches, at)?;
        }
        return Some((Decision::Limited { retry_after: oldest.left(now, limit) }, None));
    }
    let mut count = 1;
    if let Some(newest) = newest.filter(|newest| newest.last / limit.grain == now / limit.grain) {
        count += newest.count;
        batches.truncate(batches.len() - Batch::DIGITS);
    }
    Batch { last: now, count }.write(&mut batches);
    let decision = Decision::Allowed {
        remaining: u32::try_from(u64::from(limit.max) - total - 1).expect("below `max`"),
        reset_after: Batch::at(&batches, 0)?.left(now, limit),
    };
    Some((decision, Some(format!("{:0COUNT$}{batches}", total + 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_refused() {
        let limit = Limit::new(5, Duration::from_secs(1));
        let ours = "0000000001".to_owned() + "0000000000000009" + "0000000001";
        assert!(admit(ours.as_bytes(), 10, limit).is_ok());
        let (short, long) = (&ours[1..], format!("{ours}0"));
        let less = ours.replacen('1', "0", 1);
        for (log, now) in [
            ("x", 10),
            (short, 10),
            (&long, 10),
            (&ours.replace('9', "x"), 10),
            ("\u{e9}", 10),
            (&less, 1 << 40),
        ] {
            assert_eq!(admit(log.as_bytes(), now, limit), Err(StoreError::Refused(FOREIGN.into())), "{log}");
        }
    }

    #[test]
    fn a_limit_is_at_least_one_call_in_a_millisecond() {
        let odd = Limit::new(0, Duration::ZERO);
        assert_eq!((odd.max, odd.window, odd.grain, odd.life()), (1, 1000, 1, Duration::from_millis(1)));
        let long = Limit::new(33, Duration::MAX);
        assert!(long.window < 1 << 52 && long.grain * 32 >= long.window);
    }
}
