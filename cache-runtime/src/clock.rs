//! Time, for what isn't kept in the store.
//!
//! Everything goes by tokio's clock, so that tests which pause it drive lives, leases and waits;
//! but for [`Coarse`], which is for what is too hot for that.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::error::Elapsed;

/// Milliseconds since this process first asked.
pub(crate) fn millis() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Whether timers work here: futures may be polled outside a tokio runtime, where there are none.
pub(crate) fn has_timers() -> bool {
    tokio::runtime::Handle::try_current().is_ok()
}

/// Whether tokio's clock is the real one here. A test that pauses it drives lives, but not [`Coarse`].
pub(crate) fn is_real() -> bool {
    let before = std::time::Instant::now();
    let tokio = Instant::now().into_std();
    before <= tokio && tokio <= std::time::Instant::now()
}

/// Waits for `future` for at most so long; without timers, for as long as it takes.
pub(crate) async fn timeout<F: Future>(most: Duration, future: F) -> Result<F::Output, Elapsed> {
    if has_timers() { tokio::time::timeout(most, future).await } else { Ok(future.await) }
}

/// Sleeps for between half of this time and all of it.
pub(crate) async fn sleep_jittered(most: Duration) {
    if has_timers() {
        tokio::time::sleep(most.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// A moment of the kernel's coarse monotonic clock: a fifth of the price of `Instant::now()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Coarse {
    nanos: u64,
}

impl Coarse {
    /// How far the clock lags at most: a jiffy of the slowest kernel.
    pub(crate) const TICK: Duration = Duration::from_millis(10);
    /// Long before any moment that can be read.
    pub(crate) const PAST: Self = Self { nanos: 0 };
    /// After any moment that can be read.
    pub(crate) const NEVER: Self = Self { nanos: u64::MAX };

    #[inline]
    pub(crate) fn now() -> Self {
        Self { nanos: coarse_nanos() }
    }

    /// In milliseconds, rounded down.
    pub(crate) fn millis(self) -> u64 {
        self.nanos / 1_000_000
    }

    /// The moment that is so many milliseconds on this clock.
    pub(crate) fn of_millis(millis: u64) -> Self {
        Self { nanos: millis.saturating_mul(1_000_000) }
    }

    /// Later by so much; `NEVER` if that is beyond the clock.
    pub(crate) fn after(self, time: Duration) -> Self {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { nanos: self.nanos.saturating_add(time) }
    }
}

/// Milliseconds of the coarse clock.
pub(crate) fn coarse() -> u64 {
    Coarse::now().millis()
}

/// A moment that is moved while others look at it.
#[derive(Debug)]
pub(crate) struct AtomicCoarse(AtomicU64);

impl AtomicCoarse {
    pub(crate) const fn new(at: Coarse) -> Self {
        Self(AtomicU64::new(at.nanos))
    }

    #[inline]
    pub(crate) fn get(&self) -> Coarse {
        Coarse { nanos: self.0.load(Ordering::Acquire) }
    }

    pub(crate) fn set(&self, at: Coarse) {
        self.0.store(at.nanos, Ordering::Release);
    }
}

#[cfg(target_os = "linux")]
#[inline]
fn coarse_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // Counted from the start of the machine: neither is negative.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// No coarse clock that we could ask without `unsafe`: the exact one.
#[cfg(not(target_os = "linux"))]
fn coarse_nanos() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    // Not zero, which is `PAST`.
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed() + Duration::from_nanos(1);
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_keeps_up_with_the_exact_one() {
        let (exact, coarse) = (std::time::Instant::now(), Coarse::now());
        std::thread::sleep(Duration::from_millis(50));
        let passed = exact.elapsed();
        let now = Coarse::now();
        assert!(coarse < now && Coarse::PAST < coarse && now < Coarse::NEVER);
        assert!(coarse.after(passed + Coarse::TICK) >= now, "runs ahead");
        assert!(now.after(Coarse::TICK) >= coarse.after(passed), "lags by more than a tick");
    }

    #[tokio::test]
    async fn a_paused_clock_is_not_the_real_one() {
        assert!(is_real());
        tokio::time::pause();
        std::thread::sleep(Duration::from_millis(1));
        assert!(!is_real());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(!is_real());
    }

    #[test]
    fn a_time_beyond_the_clock_is_never() {
        assert_eq!(Coarse::now().after(Duration::MAX), Coarse::NEVER);
    }
}
