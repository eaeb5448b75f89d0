//! Time, for what isn't kept in the store.
//!
//! Everything goes by tokio's clock, so that tests which pause it drive lives, leases and waits.

use std::future::Future;
use std::sync::OnceLock;
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
