//! A database to be: what was written to it, and in which order.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use cache_aside::{Cache, CacheError, Job, Workers, WriteBehind, WriteBehindBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::support::{ms, secs};

/// What is sent: the how-manyth write of its order key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub n: u64,
}

/// An attempt, as its handler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub kind: String,
    pub key: String,
    pub n: u64,
    pub seq: u64,
    /// Which attempt it is, from 1.
    pub nth: u32,
}

impl Attempt {
    pub fn of(job: &Job<Change>) -> Self {
        Self {
            kind: job.kind().to_owned(),
            key: job.order_key().to_owned(),
            n: job.payload.n,
            seq: job.seq(),
            nth: job.attempt(),
        }
    }
}

/// A list that is waited for.
#[derive(Debug, Clone)]
pub struct Seen<T = Attempt>(watch::Sender<Vec<T>>);

impl<T: Clone + Debug> Seen<T> {
    pub fn new() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }

    pub fn add(&self, one: T) {
        self.0.send_modify(|all| all.push(one));
    }

    pub fn all(&self) -> Vec<T> {
        self.0.borrow().clone()
    }

    /// Waits until there are so many.
    #[track_caller]
    pub fn reach(&self, many: usize) -> impl Future<Output = Vec<T>> + '_ {
        let at = std::panic::Location::caller();
        async move {
            let mut seen = self.0.subscribe();
            let reached = tokio::time::timeout(secs(3600), seen.wait_for(|all| all.len() >= many)).await;
            assert!(reached.is_ok(), "{at}: {} of {many}", self.all().len());
            self.all()
        }
    }
}

/// A queue with short pauses.
pub fn queue(cache: &Cache) -> WriteBehindBuilder {
    WriteBehind::queue("writes").cache(cache).backoff(ms(1), ms(5))
}

pub async fn send(writes: &WriteBehind, key: &str, n: u64) -> u64 {
    writes.send("write", key, &Change { n }).await.expect("it is taken")
}

/// Workers that write each `write` down, done or not, and give what `then` says.
pub fn noting(
    writes: &WriteBehind,
    seen: &Seen,
    then: impl Fn(&Attempt) -> Result<(), String> + Clone + Send + Sync + 'static,
) -> Workers<Seen> {
    writes.workers(seen.clone()).handle("write", move |job: Job<Change>, seen: Seen| {
        let then = then.clone();
        async move {
            let attempt = Attempt::of(&job);
            seen.add(attempt.clone());
            then(&attempt)
        }
    })
}

/// Workers at work.
pub struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<u64, CacheError>>,
}

impl Running {
    pub fn new<S: Clone + Send + Sync + 'static>(workers: Workers<S>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(workers.run_until(stopped)) }
    }

    /// How many are left.
    pub async fn stop(self) -> u64 {
        let _ = self.stop.send(());
        self.task.await.expect("no panic").expect("the store answers")
    }

    /// As if the process ended.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Waits until the question is answered with yes.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(secs(60), waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub async fn pending(writes: &WriteBehind) -> u64 {
    writes.stats().await.unwrap().pending
}
