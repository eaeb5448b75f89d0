//! Work that goes on when its caller has gone.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::runtime::Handle;
use tracing::debug;

/// Runs `work` to its end without anybody waiting: at once if it never waits (the embedded store),
/// else on the runtime that is here.
pub(crate) fn run(work: impl Future<Output = ()> + Send + 'static) {
    let mut work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
    if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
        return;
    }
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(work)),
        Err(_) => debug!(target: "cache_aside", "no runtime is left for work in the background"),
    }
}
