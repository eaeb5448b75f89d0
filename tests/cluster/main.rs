//! What one server promises, a cluster of three primaries and their replicas keeps: nothing is stale, a cold key is
//! loaded once, what is elsewhere goes on, a queue loses nothing; while slots move, primaries are killed, stand
//! still, or hand over (SPEC 3.2). What it costs and what a failover undoes (I19) is counted, and printed with
//! `--nocapture`.
//!
//! The freshness checker runs through each fault once on Redis and on Valkey; for so long, and so often, as
//! `CACHE_ASIDE_CLUSTER_SECONDS` says. `CACHE_ASIDE_SEED` repeats the choices of a run: who does what when is
//! again the machine's.

mod away;
#[path = "../write_behind_chaos/check.rs"]
mod check;
mod commands;
mod confirmed;
#[path = "../write_behind_chaos/db.rs"]
mod db;
mod fresh;
#[path = "../freshness/history.rs"]
mod history;
#[path = "../write_behind_chaos/members.rs"]
mod members;
#[path = "../freshness/ours.rs"]
mod ours;
mod reshard;
mod scene;
mod stampede;
#[path = "../support/mod.rs"]
mod support;
#[path = "../freshness/truth.rs"]
mod truth;
mod undone;
#[path = "../freshness/worker.rs"]
mod worker;
mod writes;

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One at a time: each has six servers.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For how long and how often, if somebody says.
fn seconds() -> Option<Duration> {
    let text = std::env::var("CACHE_ASIDE_CLUSTER_SECONDS").ok()?;
    Some(support::secs(text.parse().expect("a number of seconds")))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("it starts")
}

/// The process of a member.
fn member(day: impl Future) {
    let runtime = runtime();
    runtime.block_on(day);
    // A load that nobody waits for any more isn't waited for.
    runtime.shutdown_background();
}
