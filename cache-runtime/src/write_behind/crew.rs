//! What the shards of a worker share: the handlers, and how they are run.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::future::{Future, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::time::timeout;

use super::builder::LONGEST;
use super::send::Shared;
use crate::error::StoreError;
use crate::store::Reply;
use crate::store::queue::{Delivery, Queue, Term};

/// The longest cause that is kept, in bytes.
const LONGEST_CAUSE: usize = 1024;

/// For what may take many round trips.
const AT_LENGTH: Duration = Duration::from_secs(10);

/// What a handler is to those who don't know its payload. The time is the age of the write.
pub(super) type Handler<S> = dyn Fn(&Delivery, Duration, S) -> Running + Send + Sync;
/// A handler at work.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The payload isn't what the handler takes: it will never do better.
    Payload(String),
    Handler(String),
}

/// A worker.
pub(super) struct Crew<S> {
    pub(super) shared: Arc<Shared>,
    /// What the queue knows it by.
    pub(super) name: String,
    pub(super) caught_up: CaughtUp,
    /// Held by all who try a write; by one alone whose write may end the process.
    pub(super) room: RwLock<()>,
    state: S,
    handlers: HashMap<String, Box<Handler<S>>>,
}

impl<S: Clone + Send + Sync + 'static> Crew<S> {
    pub(super) fn new(shared: Arc<Shared>, state: S, handlers: HashMap<String, Box<Handler<S>>>) -> Self {
        let name = format!("{:016x}", fastrand::u64(..));
        Self { shared, name, caught_up: CaughtUp::default(), room: RwLock::default(), state, handlers }
    }

    pub(super) fn queue(&self) -> &dyn Queue {
        &*self.shared.queue
    }

    pub(super) fn lease(&self) -> Duration {
        self.shared.core().options.lease.min(LONGEST)
    }

    /// An operation of the queue. Nobody waits for it, and it may be a large one; but it is of no use after the
    /// lease.
    pub(super) async fn timed<T>(&self, operation: Reply<'_, T>) -> Result<T, StoreError> {
        self.shared.in_time(self.usual(), operation).await
    }

    fn usual(&self) -> Duration {
        self.shared.core().options.budget.max(self.lease() / 3)
    }

    /// One that may take many round trips, while the lease is prolonged.
    pub(super) async fn at_length<T>(&self, operation: Reply<'_, T>) -> Result<T, StoreError> {
        self.shared.in_time(self.usual().max(AT_LENGTH), operation).await
    }

    /// Settles these, and gives them back.
    pub(super) async fn settle(
        &self,
        term: Term,
        done: Vec<Delivery>,
    ) -> (Vec<Delivery>, Result<bool, StoreError>) {
        let forget = || self.shared.forget(done.iter().flat_map(|done| &done.entries).map(|key| &**key));
        forget();
        let settled = self.timed(self.queue().settle(&self.name, term, &done)).await;
        forget();
        (done, settled)
    }

    /// One attempt of a write that is so old.
    pub(super) fn begin(&self, delivery: &Delivery, age: Duration) -> Running {
        let Some(handler) = self.handlers.get(&delivery.kind) else {
            let cause = format!("no handler for kind `{}`", delivery.kind);
            return Box::pin(ready(Err(Failure::Handler(cut(cause)))));
        };
        let begun = catch_unwind(AssertUnwindSafe(|| handler(delivery, age, self.state.clone())));
        let most = self.shared.options.attempt_timeout;
        Box::pin(async move {
            let ended = match begun {
                Ok(running) => timeout(most, caught(running)).await,
                Err(panic) => Ok(Err(panic)),
            };
            match ended {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(Failure::Payload(cause)))) => Err(Failure::Payload(cut(cause))),
                Ok(Ok(Err(Failure::Handler(cause)))) => Err(Failure::Handler(cut(cause))),
                Ok(Err(panic)) => Err(Failure::Handler(cut(format!("panicked: {}", words(&*panic))))),
                Err(_) => Err(Failure::Handler(format!("not done within {most:?}"))),
            }
        })
    }
}

/// The future's output, or what it panicked with.
async fn caught<T>(mut running: Pin<Box<dyn Future<Output = T> + Send>>) -> Result<T, Box<dyn Any + Send>> {
    poll_fn(|cx| {
        // After a panic it isn't polled again, and nobody else sees its state.
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

/// No longer than it is kept.
fn cut(mut cause: String) -> String {
    let end = (0..=LONGEST_CAUSE.min(cause.len())).rev().find(|end| cause.is_char_boundary(*end));
    cause.truncate(end.unwrap_or(0));
    cause
}

/// The shards that were read to their end, and have heard of nothing more since.
#[derive(Debug, Default)]
pub(super) struct CaughtUp {
    // std mutex: never held across an await
    shards: Mutex<(BTreeSet<u32>, Option<Waker>)>,
}

impl CaughtUp {
    fn lock(&self) -> MutexGuard<'_, (BTreeSet<u32>, Option<Waker>)> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, shard: u32) {
        let mut caught_up = self.lock();
        let waker = caught_up.0.insert(shard).then(|| caught_up.1.take()).flatten();
        drop(caught_up);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn exit(&self, shards: &[u32]) {
        self.lock().0.retain(|shard| !shards.contains(shard));
    }

    /// Those that are now; the waker is called when there are more.
    pub(super) fn look(&self, waker: &Waker) -> Vec<u32> {
        let mut caught_up = self.lock();
        caught_up.1 = Some(waker.clone());
        caught_up.0.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_cut_between_letters() {
        assert_eq!(cut("short".to_owned()), "short");
        assert_eq!(cut("\u{e9}".repeat(600)).len(), 1024);
        assert_eq!(cut(format!("x{}", "\u{e9}".repeat(600))).len(), 1023);
    }
}
