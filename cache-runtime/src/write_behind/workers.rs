//! Workers: the handlers, and until when they are called.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tracing::{error, warn};

use super::Job;
use super::crew::{Crew, Failure, Handler, Running};
use super::roster::Roster;
use super::send::{Shared, check_kind};
use crate::clock;
use crate::codec;
use crate::error::CacheError;
use crate::store::queue::Delivery;

/// How long it is before the store is asked again whether it will do.
const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// Carries out the writes of a queue: made by [`WriteBehind::workers`](crate::WriteBehind::workers).
///
/// Workers of one queue may run in several processes and several times in one: they share its shards, each about
/// as many as the others. A shard is worked at by one of them at a time, so of one order key one write at a
/// time is tried. What a worker leaves undone when it is killed is handed to another after a
/// [lease](crate::Builder::lease).
#[must_use = "nothing is carried out before `run_until`"]
pub struct Workers<S> {
    shared: Arc<Shared>,
    state: S,
    handlers: HashMap<String, Box<Handler<S>>>,
    problem: Option<CacheError>,
}

impl<S> fmt::Debug for Workers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.handlers.keys().collect();
        f.debug_struct("Workers")
            .field("queue", &self.shared.name)
            .field("kinds", &kinds)
            .finish_non_exhaustive()
    }
}

impl<S: Clone + Send + Sync + 'static> Workers<S> {
    pub(super) fn new(shared: Arc<Shared>, state: S) -> Self {
        Self { shared, state, handlers: HashMap::new(), problem: None }
    }

    /// Carries out writes of this kind. `Ok` says that the write is done; after an error, a panic, or no end within
    /// [`attempt_timeout`](crate::WriteBehindBuilder::attempt_timeout) it is tried again, and in the end it becomes
    /// a [`DeadLetter`](crate::DeadLetter). A payload that can't be decoded as a `P` becomes one at once.
    ///
    /// The handler may be dropped at any of its awaits (a timeout, the end of the process, a shard that is
    /// another worker's now), and the write is handed over once more then. Inside, the cache of the queue is the
    /// [global](crate::global()) one. A write of a kind without a handler counts as failed: another worker may
    /// have one.
    pub fn handle<P, E, F>(
        mut self,
        kind: &str,
        handler: impl Fn(Job<P>, S) -> F + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned,
        E: Display,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let run = move |delivery: &Delivery, age: Duration, state: S| -> Running {
            let payload = match serde_json::from_slice(&delivery.payload) {
                Ok(payload) => payload,
                Err(error) => {
                    let cause = format!("the payload: {}", codec::blind(&error));
                    return Box::pin(async { Err(Failure::Payload(cause)) });
                }
            };
            let running = handler(Job::new(payload, delivery, age), state);
            Box::pin(async { running.await.map_err(|error| Failure::Handler(format!("{error:#}"))) })
        };
        if let Err(problem) = check_kind(kind) {
            self.problem = Some(problem);
        } else if self.handlers.insert(kind.to_owned(), Box::new(run)).is_some() {
            self.problem = Some(CacheError::Settings(format!(
                "there are two handlers for the kind `{kind}`; write one `handle` for each kind"
            )));
        }
        self
    }

    /// Carries out what is queued, and what comes, until `shutdown` is ready: a signal, say. Then it goes on for up
    /// to [`drain`](crate::WriteBehindBuilder::drain), until its shards are empty, finishes what runs, and gives its
    /// shards to others. How many writes are left in the queue then, in all shards.
    ///
    /// ```no_run
    /// # async fn run(writes: cache_runtime::WriteBehind, pool: ()) -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn rename(_: cache_runtime::Job<String>, _: ()) -> Result<(), String> { Ok(()) }
    /// let left = writes.workers(pool).handle("rename", rename).run_until(tokio::signal::ctrl_c()).await?;
    /// println!("{left} writes are left for others");
    /// # Ok(()) }
    /// ```
    ///
    /// While the store can't be reached it waits; what was done and couldn't be settled is handed over once more.
    ///
    /// # Errors
    /// [`CacheError::Settings`] if the store would lose writes, for a kind that can't be used and for two handlers
    /// of one kind; [`CacheError::Server`] if the store refuses to say. After the shutdown, any error of the store
    /// when it is asked how many are left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    /// When it is dropped, so are the handlers at work. Its shards are taken by others after a lease, and what
    /// wasn't settled is handed over once more.
    pub async fn run_until(self, shutdown: impl Future) -> Result<u64, CacheError> {
        let Self { shared, state, handlers, problem } = self;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let mut shutdown = pin!(shutdown);
        let is_asked = check(&shared, shutdown.as_mut()).await?;
        let roster = Roster::new(Arc::new(Crew::new(Arc::clone(&shared), state, handlers)));
        Box::pin(roster.run(shutdown, is_asked)).await;
        let left = shared.ask(shared.queue.figures()).await?.pending;
        let queue = &shared.name;
        if left > 0 && !shared.core().store.is_remote() {
            error!(target: "cache_aside", queue, left, "writes are left in the queue of the embedded store: they are lost with the process");
        }
        Ok(left)
    }
}

/// Asks the store whether it will do, until it can be asked. True: `shutdown` was ready meanwhile.
async fn check<F: Future>(shared: &Shared, mut shutdown: std::pin::Pin<&mut F>) -> Result<bool, CacheError> {
    let mut is_asked = false;
    let mut has_warned = false;
    loop {
        let error = match shared.check(shared.options.patience).await {
            Ok(()) => return Ok(is_asked),
            Err(error @ (CacheError::Unavailable(_) | CacheError::Timeout(_))) if !is_asked => error,
            Err(error) => return Err(error),
        };
        if !std::mem::replace(&mut has_warned, true) {
            let queue = &shared.name;
            warn!(target: "cache_aside", queue, %error, "the store of a queue can't be reached: its workers wait");
        }
        is_asked = clock::timeout(CHECK_PAUSE, shutdown.as_mut()).await.is_ok();
    }
}
